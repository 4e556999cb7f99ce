"""Values of a run that never was, of any size: a slow rank, a slow host, a few slow steps, and noise."""

from __future__ import annotations

from array import array
from dataclasses import replace
from random import Random

from otel_netmon.analysis.details import (
    Bandwidth,
    Details,
    Drawn,
    Event,
    InsideRank,
    InsideStep,
    Link,
    Overlap,
    RankTime,
)
from otel_netmon.analysis.inside import shown
from otel_netmon.analysis.results import Diagnosis, Losses, OperationSummary, StepSummary, Summary
from otel_netmon.analysis.waiting import RankWait, Waiting
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind

STEP = 0.42
NOTHING = Summary(
    ranks=(),
    silent_ranks=(),
    alive=(),
    world_size=None,
    runs=(),
    steps=None,
    apart=None,
    operations=(),
    waiting=None,
    nics=(),
    diagnoses=(),
    losses=Losses(None, None, None, 0, 0, 0, 0),
    folder="/somewhere/else",
    files=0,
    size=0,
)
"""Of a folder in which there is nothing of a training."""


def made_up(ranks: int, steps: int) -> tuple[Summary, Details]:
    """A run of so many ranks, eight to a host, and so many steps without the first."""
    random = Random(1)
    slow, host = (417 if ranks > 500 else ranks // 3), ranks // 2
    lateness = {rank: array("f", bytes(4 * steps)) for rank in range(ranks)}
    caused, waited, last = array("d", bytes(8 * ranks)), array("d", bytes(8 * ranks)), [0] * ranks
    times = array("d")
    for step in range(steps):
        late = [random.expovariate(400.0) for _ in range(ranks)]
        if 0.3 * steps < step < 0.8 * steps:
            late[slow] += 0.06 + random.expovariate(100)
        if 0.6 * steps < step < 0.7 * steps and ranks > 16:
            for rank in range(host, min(ranks, host + 8)):
                late[rank] += 0.03 + random.expovariate(200)
        if steps > 8 and step % (steps // 4) == steps // 8:
            late[0] += 1.4
        usual, most = sorted(late)[ranks // 2], max(late)
        for rank, seconds in enumerate(late):
            waited[rank] += most - seconds
            lateness[rank][step] = max(0.0, seconds - usual)
        caused[late.index(most)] += sum(most - each for each in late) / max(1, ranks - 1)
        last[late.index(most)] += 1
        times.append(STEP + most)
    hosts = {rank: f"node{rank // 8:03}" for rank in range(ranks)}
    total = sum(times)
    finding = Finding(
        Kind.SLOW_RANK,
        f"Rank {slow} comes 68 ms late in each step: own time is 358 ms against 290 ms.",
        ranks=(slow,),
        hosts=(hosts[slow],),
        cause=Cause.COMPUTE,
        first_step=round(0.3 * steps),
        last_step=round(0.8 * steps),
        lost=0.068,
        lost_rank_seconds=0.068 * ranks,
        confidence=Confidence.HIGH,
        facts=(Fact("own time", 0.358, 0.29, "s/step"),),
        not_excluded=("more work by design",),
    )
    waits = tuple(
        RankWait(rank, waited[rank], waited[rank] / total, last[rank], caused[rank]) for rank in range(ranks)
    )
    operation = OperationSummary(
        "all_reduce", "0", "nccl", ranks, ranks, ranks * steps, ranks * steps, 0, 0, 1, 1, 1, 1, 1
    )
    summary = replace(
        NOTHING,
        ranks=tuple(range(ranks)),
        world_size=ranks,
        runs=("run",),
        steps=StepSummary(steps + 1, steps + 1, steps + 1, "train_step", STEP, 2 * STEP, steps + 1),
        operations=(operation,),
        waiting=Waiting(steps, steps, 0, waits),
        diagnoses=(Diagnosis("run", ranks, steps + 1, (finding,)),),
        files=3 * ranks,
        size=ranks * steps * 2000,
    )
    own, transfer = 0.7 * STEP * steps, 0.3 * STEP * steps
    details = Details(
        run_id="run",
        services=("training",),
        hosts=hosts,
        steps=tuple(range(1, steps + 1)),
        step_times=times,
        lateness=lateness,
        times=tuple(
            RankTime(
                rank,
                steps,
                total,
                total - transfer - waited[rank],
                0.0,
                0.0,
                transfer,
                waited[rank],
                0.0,
                0.0,
                None,
            )
            for rank in range(ranks)
        ),
        events=tuple(Event(step, "gc", "", step % ranks, 0.2) for step in range(1, steps, 10)),
        inside=tuple(
            _inside(step, why, lateness, shown(range(ranks), dict(enumerate(caused))))
            for step, why in ((steps // 10 + 1, "a calm one"), (steps // 2, f"rank {slow} late"))
        ),
        bandwidths=tuple(
            Bandwidth("all_reduce", 4.0**power, 40, 3e8 * 0.8, 3e8 * power / 8, 3e8 * 1.4, 2e8)
            for power in range(6, 13)
        ),
        links=_links(random, sorted(set(hosts.values()))),
        overlaps=tuple(Overlap(rank, steps, own, own / 2, own / 4, own / 4) for rank in range(ranks)),
    )
    return summary, details


def _inside(step: int, why: str, lateness: dict[int, array[float]], ranks: tuple[int, ...]) -> InsideStep:
    late = {rank: lateness[rank][step - 1] for rank in ranks}
    most = max(late.values())
    rows = []
    for rank, seconds in late.items():
        start, waited = 0.7 * STEP + seconds, most - seconds
        drawn = Drawn("all_reduce", "0", step, 25e6, start, waited + 0.3 * STEP, waited)
        rows.append(InsideRank(rank, 0.0, STEP + most, waited, (drawn,), (("data", 0.0, 0.01),)))
    return InsideStep(step, why, f"all_reduce number {step}", tuple(rows))


def _links(random: Random, hosts: list[str]) -> tuple[Link, ...]:
    return tuple(
        Link(one, other, 10**9, 2e-4 * random.uniform(0.8, 1.2), 1e-4, 10**6, random.randrange(300), 1e9)
        for one in hosts
        for other in (hosts if len(hosts) < 20 else hosts[:20])
        if one != other
    )
