"""Every threshold of the diagnosis, and where it comes from.

The values come from 145 labelled runs of four hosts (gloo, ring, links of 400 Mbit/s) on a noisy machine with two
cores; docs/diagnosis.md says what they reach, there and on runs that they were not made on. A threshold that is a
share holds for other sizes of step, a time is the least that is worth a word.
"""

from __future__ import annotations

from typing import Final

FIRST_STEP: Final = 2
"""Steps before are not compared: processes start at different times, and caches are cold."""
MIN_STEPS: Final = 10
"""Fewer common steps are insufficient evidence."""
WINDOW: Final = 20
"""Steps that are compared at a time, and ..."""
STRIDE: Final = 5
"""... by how many the window moves on."""
MIN_WINDOWS: Final = 2
"""Windows in which a finding has to stand, where there are as many."""

STARVED_SHARE: Final = 0.08
"""Excess of the run queue as a share of a step: clean runs reach 3 %, with more threads than cores."""
STARVED_RATIO: Final = 2.5
"""And it waits at least so many times as long as the others."""
STARVED_STEPS: Final = 0.8
"""In at least this share of the steps."""
THROTTLED: Final = 0.05
"""Seconds a second that the cgroup was throttled for, from which on a quota is the cause."""
THROTTLED_RATIO: Final = 3.0
"""And times that of others, with which no link of the host is blamed: its sockets wait as well."""

QUOTA: Final = 0.3
"""Seconds a second that speak for themselves, and with which ..."""
QUOTA_SHARE: Final = 0.025
QUOTA_STEPS: Final = 0.6
"""... this excess of the run queue, in this share of the steps, is enough."""

SLOW_SECONDS: Final = 0.003
SLOW_SHARE: Final = 0.025
"""Excess of a rank's own time, in seconds and as a share of a step: clean runs reach 4.3 ms with z below 5."""
SLOW_Z: Final = 5.0
"""Median of the excess in units of its standard error."""
SLOW_STEPS: Final = 0.85
SLOW_LEAST: Final = 0.25
"""In this share of the steps it is late by at least this share of that median; in fewer, it is late at times."""
LATE_SHARE: Final = 0.05
"""The same for the time until the last collective is issued, which overlaps with transfers and so is noisier."""
HOST_SHARE: Final = 0.75
"""Share of a host's ranks that have to be late for it to be the host."""

STALL_SECONDS: Final = 1.0
STALL_RATIO: Final = 5.0
"""One step stood still: so long on every rank, and so many times the median."""

PAUSE_SECONDS: Final = 0.05
PAUSE_SHARE: Final = 0.3
"""A pause: an outlier of own time or garbage collection by so much, and by this share of a step."""
PAUSES: Final = 3
PAUSES_RATIO: Final = 3
"""So many of them on one rank, and so many times those of any other, ..."""
PAUSES_COST: Final = 0.03
"""... that cost this share of the time."""

OFTEN_SECONDS: Final = 0.01
OFTEN_SHARE: Final = 0.05
OFTEN_STEPS: Final = 0.3
"""Late in many steps: by so much, and by this share of a step, in this share of the steps; and as many times as
any other rank as with pauses."""

LOSS_SURE: Final = 0.01
LOSS: Final = 0.004
LOSS_WEAK: Final = 0.001
"""Share of segments sent again: for itself; with a short round-trip time; with a goodput that is lower, too."""
LOSS_RATIO: Final = 8.0
"""Times the share on the pairs that are not lossy, ..."""
LOSS_APART: Final = 2.0
"""And so many times that of the pairs whose loss is explained by full queues, ..."""
LOSS_READINGS: Final = 0.75
"""... in this share of readings. A full queue loses, too, but makes the round-trip time long, where ..."""
LOSS_RTT: Final = 0.6
"""... loss on the way makes it short: the sender never fills the queue. Times that of the others."""
LOSS_LIKELIHOOD: Final = 5.0
"""Log-likelihood by which the small flows have to tell one end of a lossy pair from the other."""

RATE: Final = 0.85
RATE_MEAN: Final = 0.9
RATE_RTT: Final = 1.25
RATE_Z: Final = 8.0
"""Goodput while busy of a host's slowest pair, and of all of its pairs, as a share of the pairs that do not touch
it; with a round-trip time so many times as long, ..."""
RATE_WEAK: Final = 0.88
RATE_MEAN_WEAK: Final = 0.93
RATE_Z_WEAK: Final = 4.5
LASTING: Final = 6
"""Short of these, it is slow if it is so in this many windows (45 steps, seen from the end of a run): an innocent
host was in 4 of 11, and in 7 of 23, at a lower score; one with three quarters of the others' rate in 7 of 11."""
RATE_SURE: Final = 0.6
RATE_Z_SURE: Final = 5.0
"""... or so low that it speaks for itself."""
ONE_WAY: Final = 0.89
"""Goodput out over goodput in: below, the way out is slow; above its inverse, the way in. Acknowledgements pass
the other way, and make that slow, too: of a limit to a fifth, in one direction, it was 0.57 to 0.88 or 1.2 to 1.5;
of limits and delays both ways 0.96 to 1.11."""
DELAY_RTT: Final = 1.5
DELAY_SECONDS: Final = 0.0005
"""Round-trip time without load of a host's pairs, times and seconds more than that of others: a delay. Where no
probe tells it, a connection that is hardly used shows at least that there is none: ..."""
NO_DELAY: Final = 0.25
"""... its round-trip time is below this share of what the busy ones have too much. (The kernel's rate of delivery
does not tell: over goodput it was 1.0 to 1.5 behind delays, and 0.6 to 1.5 behind limits.)"""
FOREIGN: Final = 0.2
"""Share of a NIC's bytes that is not the job's, from which on it is cross-traffic."""
TRAFFIC_SECONDS: Final = 5.0
"""Of readings that are needed to speak of links: goodput swings with the sizes of collectives."""

HANG_SECONDS: Final = 5.0
"""For which a live rank has to be missed: below, it may only be late."""
WAIT_SECONDS: Final = 2.0
"""For which all have to wait in a collective, for its network to be looked at."""
SILENT_SECONDS: Final = 6.0
"""Without a sign, after which a rank is called silent. Heartbeats and digests come every 2 s or sooner."""
UNHEARD_SECONDS: Final = 3.0
"""With which a sign did not come: where that is so of half of the ranks, none of them is called dead or hung."""
LOST_SECONDS: Final = 15.0
"""The same, where nothing hangs."""
BACKOFF: Final = 2
"""Doublings of the retransmission timeout that a mere loss does not reach."""
LOOK_BACK: Final = 64
"""Numbers of collectives that are compared before the one that hangs."""
