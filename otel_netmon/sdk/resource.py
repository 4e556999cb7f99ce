"""The resource detector ``otel_netmon``: which process of which host a signal comes from, and its rank."""

from __future__ import annotations

import os
import socket
from typing import Any, Final

from opentelemetry.sdk.environment_variables import OTEL_EXPERIMENTAL_RESOURCE_DETECTORS
from opentelemetry.sdk.resources import OTELResourceDetector, Resource, ResourceDetector
from opentelemetry.semconv._incubating.attributes import host_attributes, process_attributes
from opentelemetry.util.types import AnyValue

from otel_netmon import semconv
from otel_netmon.internals.otel_internals import update_resource
from otel_netmon.job import roles
from otel_netmon.text import bounded, listed

NAME: Final = "otel_netmon"
"""Its name in ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS``; `otel-netmon run` sets that."""


class RankResourceDetector(ResourceDetector):
    """``host.name``, ``process.pid``, and rank, local rank and world size when the launcher's variables say them,
    or from when on a process group does (``refresh``).

    ``service.instance.id`` is left to the SDK, which draws one per process. What the user says in
    ``OTEL_RESOURCE_ATTRIBUTES`` wins, after a fork too.
    """

    def is_process_dependent(self) -> bool:
        """Yes: the SDK asks again after a fork."""
        return True

    def detect(self) -> Resource:
        """Costs a few microseconds; reads the environment only."""
        attributes: dict[str, AnyValue] = {
            host_attributes.HOST_NAME: bounded(socket.gethostname()),
            process_attributes.PROCESS_PID: os.getpid(),
        }
        rank = roles.own_rank()
        if rank is not None:
            values = rank.rank, rank.local_rank, rank.world_size
            attributes |= {
                name: value for name, value in zip(_OF_THE_RANK, values, strict=True) if value is not None
            }
        users = OTELResourceDetector().detect().attributes
        return Resource({name: value for name, value in attributes.items() if name not in users})


_OF_THE_RANK: Final = (semconv.RANK, semconv.LOCAL_RANK, semconv.WORLD_SIZE)


def refresh(*providers: Any) -> None:
    """Give the SDK's ``providers`` the rank that is known now, where this detector is switched on."""
    if NAME not in listed(os.environ.get(OTEL_EXPERIMENTAL_RESOURCE_DETECTORS, "")):
        return
    found = RankResourceDetector().detect()
    users = OTELResourceDetector().detect().attributes
    stale = {*_OF_THE_RANK} - found.attributes.keys() - users.keys()
    for provider in providers:
        update_resource(provider, found, stale)
