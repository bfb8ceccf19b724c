"""What a virtual programmer and the host's side of it expect of one another, whatever the host's side is made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class PortEvents:
    """What a port tells its programmer, on the loop's thread.

    `take` gets each piece of what a client wrote and returns whether to go on at once (else `Port.resume` says when);
    `closed` is called when the last client has closed the port, where closing means anything; `lines` with DTR and RTS (True:
    asserted) when a client has moved one, where the port has any.
    """

    take: Callable[[bytes], bool]
    closed: Callable[[], None]
    lines: Callable[[bool, bool], None]


class Port(Protocol):
    """The host's side of a programmer that is plugged in. Used on the loop's thread."""

    path: str
    """Where clients find it."""

    @property
    def baud(self) -> int:
        """The baud a client has set."""

    def write(self, data: bytes) -> int:
        """Give this to the client; returns how many bytes were lost because nobody reads."""

    def resume(self) -> None:
        """Take on what the clients write."""

    def close(self) -> None:
        """Pull the adapter."""


OpenPort = Callable[[asyncio.AbstractEventLoop, PortEvents], Port]
"""Makes the port of one plug."""
