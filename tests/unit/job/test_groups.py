"""What is known of a process group, however little it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.emit.attribute_sets import AttributeSet
from otel_netmon.job.groups import Groups
from otel_netmon.job.roles import RankIdentity

dist = pytest.importorskip("torch.distributed")
WHOLE: dict[str, Any] = {"group_name": "7", "size": 4, "rank": 3, "_get_backend": "gloo", "name": "mine"}


class Refuses:
    def __bool__(self) -> bool:
        raise RuntimeError("no")

    __str__ = __eq__ = __bool__  # type: ignore[assignment]  # on purpose: see the test
    __hash__ = None  # type: ignore[assignment]  # on purpose: see the test


def group_with(**says: Any) -> Any:
    """As torch's, in plain Python; what is not said raises as torch does."""

    class Named:
        def name(self) -> Any:
            return says["_get_backend"]

    class Written:
        @property
        def group_name(self) -> Any:
            return says["group_name"]

        def _get_backend(self, _device: Any) -> Any:
            if "_get_backend" not in says:
                raise RuntimeError("No backend type associated with device type cpu")
            return Named()

        def size(self) -> Any:
            return says["size"]

        def rank(self) -> Any:
            return says["rank"]

        def name(self) -> Any:
            return says["name"]

    return Written()


@pytest.mark.parametrize("lacks", [*WHOLE, None])
def test_what_a_group_does_not_say_costs_that_alone(lacks: str | None) -> None:
    written = group_with(**{key: value for key, value in WHOLE.items() if key != lacks})
    group = Groups().of(written)
    expected = ("7", 4, 3, "gloo")
    without = {
        "group_name": ("unnamed-1", *expected[1:]),
        "size": ("7", 0, 3, "gloo"),
        "rank": ("7", 4, -1, "gloo"),
        "_get_backend": (*expected[:3], "mine"),
    }
    assert (group.name, group.size, group.rank, group.backend) == without.get(lacks or "", expected)
    about = AttributeSet(group, OPERATIONS["allreduce_"], True, RankIdentity())
    assert (about.known[3] is None) == (lacks == "size")
    assert (about.known[4] is None) == (lacks == "rank")


@pytest.mark.parametrize("value", ["", None, Refuses()])
def test_a_group_that_says_nonsense_is_one_without_a_name(value: Any) -> None:
    written = group_with(**dict.fromkeys(WHOLE, value))
    group = Groups().of(written)
    assert (group.size, group.rank) == (0, -1)
    assert (group.name, group.backend) == ("unnamed-1", "undefined")


def test_groups_without_a_name_are_told_apart() -> None:
    groups = Groups()
    first, second = group_with(), group_with()
    assert groups.of(first).name != groups.of(second).name
    assert groups.of(first) is groups.of(first)


def test_a_python_group_has_the_name_that_torch_registered() -> None:
    """`init_process_group` does not tell a group written in Python how it is called."""
    from torch.distributed import distributed_c10d as c10d

    class Written(dist.ProcessGroup):  # type: ignore[misc, name-defined]  # torch is not typed here
        def getBackendName(self) -> str:
            return "mine"

    written = Written(0, 1)
    with pytest.raises(RuntimeError, match="name not set"):
        _ = written.group_name
    c10d._world.pg_names[written] = "5"
    try:
        group = Groups().of(written)
    finally:
        del c10d._world.pg_names[written]
    assert (group.name, group.size, group.rank, group.backend) == ("5", 1, 0, "mine")
