"""What a process is in a training job, and what is started in it.

Every Python in the tree is instrumented: the launcher, the ranks, the resource trackers, the data loaders. So what
is asked here is answered from the command line and the environment alone; nothing is imported for it.
"""

from __future__ import annotations

import enum
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from otel_netmon import config, forks

_LAUNCHERS: Final = frozenset({"torchrun", "accelerate", "deepspeed", "lightning", "fabric"})
_LAUNCHER_MODULES: Final = (
    "torch.distributed.run",
    "torch.distributed.launch",
    "accelerate.commands.",
    "deepspeed.launcher.",
)
_LAUNCHER_FILES: Final = ("torch/distributed/run.py", "torch/distributed/launch.py")
_FORK_SERVER: Final = "from multiprocessing.forkserver import"
_HELPER_CODE: Final = (
    "from multiprocessing.resource_tracker import",
    "from multiprocessing.semaphore_tracker import",
    _FORK_SERVER,
)
_SPAWN_CODE: Final = "from multiprocessing.spawn import"
_HELPER_FILES: Final = ("torch/_inductor/compile_worker/__main__.py",)

# What each launcher calls (rank, local rank, world size), the nearest to the process first. Slurm sets its
# variables in the batch script too, where no task runs: only a step has SLURM_STEP_ID.
_RANK_VARIABLES: Final = (
    (None, "RANK", "LOCAL_RANK", "WORLD_SIZE"),
    (None, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    (None, "PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"),
)


@dataclass(frozen=True)
class RankIdentity:
    """A rank in its job; what is not known is ``None``."""

    rank: int | None = 0
    local_rank: int | None = None
    world_size: int | None = None


class Role(str, enum.Enum):
    """What a process is in the job."""

    LAUNCHER = "launcher"
    """torchrun's agent and its like: starts ranks, trains nothing, lives as long as they do."""
    RANK = "rank"
    """Trains. By the launcher's variables; once there is a process group, that is asked instead."""
    WORKER = "worker"
    """Spawned by multiprocessing: a data loader, or a rank of ``torch.multiprocessing.spawn``."""
    HELPER = "helper"
    """Resource trackers, fork servers, compile workers: nothing of ours runs there."""
    PLAIN = "plain"
    """Any other Python process."""


def environment_rank(environ: Mapping[str, str] = os.environ) -> RankIdentity | None:
    """The rank that torchrun, Open MPI, Slurm or an MPI process manager gave; ``None`` when none did."""
    for needs, *names in _RANK_VARIABLES:
        if needs and needs not in environ:
            continue
        rank, local_rank, world_size = (_whole(environ.get(name)) for name in names)
        if rank is not None:
            return RankIdentity(rank, local_rank, world_size)
    return None


def launched_rank() -> RankIdentity:
    """The rank that a launcher of ranks gave, if one did. ``RANK`` alone may mean anything: the number of a node,
    or of some framework's worker."""
    is_ambiguous = "TORCHELASTIC_RUN_ID" not in os.environ and os.environ.get("RANK")
    return (None if is_ambiguous else environment_rank()) or RankIdentity(None)


_joined: list[RankIdentity | None] = []
"""The rank that the process group gave, once there was one."""


def joined(rank: RankIdentity) -> None:
    """The process is in a group, and has this rank in the job, or none."""
    _joined[:] = [None if rank.rank is None else rank]


@forks.register_function
def _left() -> None:
    _joined.clear()


def own_rank() -> RankIdentity | None:
    """This process's rank by its process group, else by the environment; ``None`` where it has none, as far as is
    known. A launcher has none, whatever variables it was started with; nor have the helpers and workers that a
    rank starts."""
    if _joined:
        return _joined[0]
    return environment_rank() if role() is Role.RANK else None


def restart_count() -> int:
    """How many times the elastic launcher restarted this job's ranks; 0 where there is none."""
    return _whole(os.environ.get("TORCHELASTIC_RESTART_COUNT")) or 0


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


def role(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> Role:
    """The role of a process with this command line (``sys.orig_argv`` by default) and environment."""
    module, code, script = _what_runs(sys.orig_argv if argv is None else argv)
    if code.startswith(_HELPER_CODE) or script.endswith(_HELPER_FILES):
        return Role.HELPER
    if code.startswith(_SPAWN_CODE):
        return Role.WORKER
    if (
        module.startswith(_LAUNCHER_MODULES)
        or PurePath(script).name in _LAUNCHERS
        or script.endswith(_LAUNCHER_FILES)
    ):
        return Role.LAUNCHER
    return Role.RANK if environment_rank(environ) else Role.PLAIN


def is_fork_server(argv: Sequence[str] | None = None) -> bool:
    """Whether this is multiprocessing's fork server, or what it forked: a helper whose children may be ranks."""
    _, code, _ = _what_runs(sys.orig_argv if argv is None else argv)
    return code.startswith(_FORK_SERVER)


def _what_runs(argv: Sequence[str]) -> tuple[str, str, str]:
    """``(module, code, script)`` of a Python command line; two of them are empty."""
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument in ("-m", "-c"):
            value = next(arguments, "")
            return (value, "", "") if argument == "-m" else ("", value, "")
        if argument in ("-W", "-X"):
            next(arguments, None)
        elif not argument.startswith("-"):
            return "", "", argument
    return "", "", ""


def claim_host(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Whether the host monitors run in this process; if so, its children see that in the environment.

    Once per host: in the first instrumented process of a tree, as an instrumented ``torchrun`` is. It has a GIL of
    its own, so monitors never compete with training, and it outlives its ranks. Where no launcher of ours is above
    (``srun``, ``mpirun``, instrumented from code) it is local rank 0.
    """
    choice = config.current().host_monitors
    if choice != "auto":
        return choice == "on"
    process = role(environ=environ)
    if process is Role.HELPER or _owner_is_above(environ.get(config.HOST_OWNER, "")):
        return False
    rank = environment_rank(environ)
    if process is Role.RANK and rank is not None and rank.local_rank not in (0, None):
        return False
    environ[config.HOST_OWNER] = f"{socket.gethostname()}:{os.getpid()}"
    return True


def release_host(environ: MutableMapping[str, str]) -> None:
    """Undo ``claim_host``: the monitors of this process have stopped."""
    if environ.get(config.HOST_OWNER) == f"{socket.gethostname()}:{os.getpid()}":
        del environ[config.HOST_OWNER]


def _owner_is_above(owner: str) -> bool:
    """Whether ``host:pid`` is another live process of this host (an environment can travel to other hosts)."""
    host, _, pid = owner.rpartition(":")
    number = _whole(pid)
    if host != socket.gethostname() or number is None or number == os.getpid():
        return False
    try:
        os.kill(number, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
