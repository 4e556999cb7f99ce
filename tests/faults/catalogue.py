"""What can be wrong with a run, and runs with which nothing is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .lab import Lab, no_compiler, no_quota

Inside = Callable[[int], Sequence[Mapping[str, Any]]]
"""The faults of the job for a culprit; see ``programs/job.py``."""
Outside = Callable[[Lab, int], object]

FROM: Final = 25
"""The step with which a fault begins."""


@dataclass(frozen=True)
class Culprit:
    """What a diagnosis should say of one rank, or one host."""

    kind: str
    """One of ``grading.EXPECTED``."""
    rank: int
    direction: str | None = None
    hosts_ranks: int = 1
    """So many ranks from ``rank`` on, those of one host, are it together."""


@dataclass(frozen=True)
class Case:
    """One run. ``culprits`` by the rank that was chosen; none of them: a run without a fault."""

    name: str
    how: str
    culprits: Callable[[int], tuple[Culprit, ...]] = lambda _: ()
    inside: Inside = lambda _: ()
    outside: Outside | None = None
    ends: bool = False
    """Whether the training ends by it."""
    needs: Callable[[], str | None] = lambda: None
    """Why it cannot be made here."""
    tolerates: tuple[tuple[str, int], ...] = ()
    """Kinds and ranks that may be named, though nothing is wrong: what they say is true."""
    job: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    hosts: int = 4
    per_host: int = 1
    link: float = 400.0
    busy_loops: int = 0
    """On the machine, beside all hosts."""
    from_step: int = FROM


def _one(kind: str, direction: str | None = None) -> Callable[[int], tuple[Culprit, ...]]:
    return lambda rank: (Culprit(kind, rank, direction),)


def _inside(kind: str, **more: Any) -> Inside:
    return lambda rank: ({"kind": kind, "rank": rank, **more},)


def _flap(lab: Lab, rank: int) -> None:
    import time

    lab.hosts[rank].cut()
    time.sleep(3)
    lab.hosts[rank].join()


def _signal(lab: Lab, rank: int, seconds: float | None) -> None:
    import signal
    import time

    for pid in lab.hosts[rank].pids:
        os.kill(pid, signal.SIGSTOP)
    if seconds is not None:
        time.sleep(seconds)
        for pid in lab.hosts[rank].pids:
            os.kill(pid, signal.SIGCONT)


def _hogs(lab: Lab, rank: int) -> None:
    lab.hosts[rank].quota(0.5)
    lab.hosts[rank].hog(3)


def _limit(up: float | None = None, down: float | None = None) -> Outside:
    return lambda lab, rank: lab.hosts[rank].limit(up=up, down=down)


_SLOW = (
    Case("straggler", "40 ms of sleep before backward", _one("compute"), _inside("straggler", ms=40)),
    Case("weak_straggler", "8 ms of sleep before backward", _one("compute"), _inside("straggler", ms=8)),
    Case("late_bucket", "40 ms within backward, behind its first buckets", _one("compute"),
         _inside("late_bucket", ms=40)),
    Case("data", "the loader takes 40 ms more, in the process", _one("input"), _inside("data", ms=40)),
    Case("data_worker", "the loader's worker takes 450 ms for a batch", _one("input"), _inside("data", ms=450),
         job={"workers": 1}),
    Case("gc", "1.5 million objects, collected every 6th step", _one("gc"),
         _inside("gc", objects=1_500_000, every=6)),
    Case("stall", "300 ms every 10th step", _one("stall"), _inside("stall", ms=300, every=10)),
    Case("quota", "CPU quota of 10 % of a core", _one("cpu"), needs=no_quota,
         outside=lambda lab, rank: lab.hosts[rank].quota(0.1)),
    Case("hogs", "3 busy loops in the rank's cgroup, with a quota of 50 %", _one("cpu"), needs=no_quota,
         outside=_hogs),
)  # fmt: skip
_NETWORK = (
    Case("rate_up", "80 Mbit/s from the host", _one("link", "up"), outside=_limit(up=80)),
    Case("rate_down", "80 Mbit/s to the host", _one("link", "down"), outside=_limit(down=80)),
    Case("rate_both", "80 Mbit/s both ways", _one("link", "both"), outside=_limit(up=80, down=80)),
    Case("weak_rate_up", "150 Mbit/s from the host, where links have 200", _one("link", "up"), link=200,
         outside=_limit(up=150)),
    Case("weak_rate_down", "150 Mbit/s to the host, where links have 200", _one("link", "down"), link=200,
         outside=_limit(down=150)),
    Case("delay", "5 ms each way, by a relay", _one("delay", "both"), needs=no_compiler,
         outside=lambda lab, rank: lab.delay(lab.hosts[rank], 5)),
    Case("loss_up", "2 % of the packets from the host", _one("loss", "up"),
         outside=lambda lab, rank: lab.hosts[rank].lose(2, "up")),
    Case("loss_down", "2 % of the packets to the host", _one("loss", "down"),
         outside=lambda lab, rank: lab.hosts[rank].lose(2, "down")),
    Case("cross_up", "iperf3 from the host to the spare one", _one("cross", "up"),
         outside=lambda lab, rank: lab.cross(lab.hosts[rank], "up")),
    Case("cross_down", "iperf3 from the spare host to the host", _one("cross", "down"),
         outside=lambda lab, rank: lab.cross(lab.hosts[rank], "down")),
    Case("cut", "its cable is pulled for good", _one("cut"), ends=True,
         outside=lambda lab, rank: lab.hosts[rank].cut()),
    Case("flap", "its cable is pulled for 3 s", _one("flap"), outside=_flap),
)  # fmt: skip
_BROKEN = (
    Case("stop", "SIGSTOP for 4 s", _one("stop"), outside=lambda lab, rank: _signal(lab, rank, 4)),
    Case("freeze", "SIGSTOP for good", _one("freeze"), ends=True,
         outside=lambda lab, rank: _signal(lab, rank, None)),
    Case("hang", "it sleeps before backward for good", _one("hang"), _inside("hang"), ends=True),
    Case("kill", "SIGKILL", _one("dead"), _inside("kill"), ends=True),
    Case("exit", "os._exit(3)", _one("dead"), _inside("exit"), ends=True),
    Case("exception", "an exception of its own", _one("dead"), _inside("exception"), ends=True),
    Case("desync_op", "a broadcast more than the others", _one("desync"), _inside("desync_op"), ends=True),
    Case("desync_size", "an all_reduce of another size more", _one("desync"), _inside("desync_size"), ends=True),
    Case("desync_skip", "an all_reduce less than the others", _one("desync"), _inside("desync_skip"), ends=True),
)  # fmt: skip
_SEVERAL = (
    Case("two_kinds", "40 ms on rank 1, 80 Mbit/s from host 3",
         lambda _: (Culprit("compute", 1), Culprit("link", 3, "up")),
         lambda _: ({"kind": "straggler", "rank": 1, "ms": 40},),
         outside=lambda lab, _: lab.hosts[3].limit(up=80)),
    Case("two_stragglers", "40 ms on rank 0, 30 ms on rank 2",
         lambda _: (Culprit("compute", 0), Culprit("compute", 2)),
         lambda _: ({"kind": "straggler", "rank": 0, "ms": 40}, {"kind": "straggler", "rank": 2, "ms": 30})),
    Case("slow_host", "40 ms on both ranks of the host",
         lambda host: (Culprit("compute", 2 * host, hosts_ranks=2),),
         lambda host: [{"kind": "straggler", "rank": 2 * host + local, "ms": 40} for local in (0, 1)], per_host=2),
    Case("slow_host_link", "80 Mbit/s from a host of two ranks",
         lambda host: (Culprit("link", 2 * host, "up", hosts_ranks=2),), outside=_limit(up=80), per_host=2),
    Case("one_of_host", "40 ms on one rank of two on its host", lambda host: (Culprit("compute", 2 * host),),
         lambda host: ({"kind": "straggler", "rank": 2 * host, "ms": 40},), per_host=2),
)  # fmt: skip

DEFAULTS: Final = {"OTEL_NETMON_INTERVAL": "", "OTEL_NETMON_STALL_AFTER": "", "OTEL_NETMON_HEARTBEAT": ""}
"""The package's own settings, where the lab has quicker ones."""

FEW: Final = {"OTEL_NETMON_VOLUME": "steps", "OTEL_NETMON_STEPS_MAX_BYTES": "0"}
"""As from 65 ranks on, but that nothing is left on the host."""

CLEAN: Final = (
    Case("none", "nothing"),
    Case("none_busy", "nothing; a busy loop on each core", busy_loops=2),
    Case("none_own", "nothing; each step of each rank takes 0.6 to 1.4 of the usual", job={"vary_by_rank": True}),
    Case("none_vary", "nothing; steps vary by 80 %, alike on all", job={"varies": 0.8, "seed": 3}),
    Case("none_growing", "nothing; steps grow longer", job={"growth": 0.03}),
    Case("none_big", "nothing; one bucket", job={"bucket_mb": 100}),
    Case("none_small", "nothing; a bucket for each layer", job={"bucket_mb": 0.01}),
    Case("none_compute", "nothing; 100 ms of compute, a small model, a worker",
         job={"compute_ms": 100, "width": 200, "workers": 1}),
    Case("none_eval_all", "nothing; all evaluate every 20 steps", job={"evaluate": "all"}),
    Case("none_eval_0", "nothing; rank 0 evaluates every 20 steps", job={"evaluate": "0"},
         tolerates=(("recurring_pauses", 0), ("paused_rank", 0))),
    Case("none_checkpoint", "nothing; rank 0 writes a checkpoint every 30 steps", job={"checkpoint": 30},
         tolerates=(("recurring_pauses", 0), ("paused_rank", 0))),
    Case("none_accumulate", "nothing; 4 micro-steps", job={"micro_steps": 4}),
    Case("none_gc", "nothing; all collect garbage, each at its own steps", job={"collect_every": 12}),
    Case("none_pairs", "nothing; two ranks each have a group besides", job={"pairs": True}),
    Case("none_default", "nothing; the default settings", job={"steps": 140}, env=DEFAULTS),
    Case("none_dispatcher", "nothing; captured on the dispatcher", env={"OTEL_NETMON_CAPTURE": "dispatcher"}),
    Case("none_sampled", "nothing; every 10th step is traced", env={"OTEL_NETMON_TRACE_EVERY": "10"}),
    Case("none_rank_0", "nothing; only rank 0 is traced", env={"OTEL_NETMON_TRACE_RANKS": "0"}),
    Case("none_few", "nothing; collectives of few steps go out", env=FEW),
    Case("none_2", "nothing; 2 ranks", hosts=2),
    Case("none_8", "nothing; 8 ranks, 2 on a host", per_host=2),
    Case("none_fast", "nothing; links of 2 Gbit/s", link=2000),
    Case("none_slow", "nothing; links of 100 Mbit/s", link=100),
)  # fmt: skip


def _variants() -> tuple[Case, ...]:
    by_name = {case.name: case for case in (*_SLOW, *_NETWORK, *_BROKEN)}
    first = [
        replace(by_name[name], name=f"{name}_first", how=f"{by_name[name].how}; from the start", from_step=0)
        for name in ("straggler", "data", "rate_up")
    ]
    default = [
        replace(by_name[name], name=f"{name}_default", how=f"{by_name[name].how}; the default settings",
                env=DEFAULTS, job={"steps": 140})
        for name in ("straggler", "rate_up")
    ]  # fmt: skip
    sampled = [
        replace(by_name[name], name=f"{name}_sampled", how=f"{by_name[name].how}; every 10th step is traced",
                env={"OTEL_NETMON_TRACE_EVERY": "10"})
        for name in ("straggler", "late_bucket", "rate_up")
    ]  # fmt: skip
    few = [
        replace(by_name[name], name=f"{name}_few", how=f"{by_name[name].how}; collectives of few steps go out",
                env=FEW)
        for name in ("straggler", "late_bucket", "data", "rate_up", "loss_down", "cut", "hang", "kill",
                     "exception", "desync_op", "desync_size")
    ]  # fmt: skip
    return (*first, *default, *sampled, *few)


FAULTS: Final = (*_SLOW, *_NETWORK, *_BROKEN, *_SEVERAL, *_variants())
FIXED: Final = frozenset({"two_kinds", "two_stragglers"})
"""Their culprits are always the same."""
CASES: Final = {case.name: case for case in (*FAULTS, *CLEAN)}
