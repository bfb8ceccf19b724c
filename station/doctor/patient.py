"""What is examined: one configuration on one machine, and the words that every check answers in.

Facts are read when a check asks for them; the USB tree is read once for all. Tests give a root of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from station.adapters.machine.kernel import Kernel, running_kernel
from station.adapters.machine.people import Person, person_at_work
from station.adapters.machine.usb import Tree, UsbDevice, programmers, usb_tree
from station.bundle import look_into
from station.config import Config
from station.errors import ConfigurationError
from station.recipe import Recipe
from station.views import Diagnosis, Level

Said = Iterator[Diagnosis]
"""What one check says; who runs it fills in the check's word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The station to look at."""

    config: Config
    config_error: ConfigurationError | None = None
    """Why the configuration could not be used; `config` is then the default one."""
    root: Path
    in_daemon: bool
    """Whether the daemon itself looks: often, and from behind the walls that systemd puts around it."""
    kernel: Kernel
    tree: Callable[[], Tree]
    recipe: Callable[[], Recipe | None]
    """What is made, read once; None when no recipe is named. Raises `ConfigurationError`."""
    clock_synchronised: Callable[[], bool | None]
    now: Callable[[], datetime]

    def person(self) -> Person:
        """Return who opens the programmers."""
        return person_at_work(self.root)

    def programmers(self) -> tuple[UsbDevice, ...]:
        """Return the programmers that are plugged in, those in excluded places left out."""
        return programmers(self.tree(), self.config.usb.ids, self.config.usb.excluded)

    def nodes(self) -> dict[str, UsbDevice]:
        """Return node -> programmer."""
        return {tty.node: programmer for programmer in self.programmers() for tty in programmer.ttys}


def patient(
    config: Config,
    *,
    config_error: ConfigurationError | None = None,
    root: Path = Path("/"),
    in_daemon: bool = False,
    clock_synchronised: Callable[[], bool | None],
) -> Patient:
    """Return the station with this configuration on this machine, ready to be looked at once."""
    return Patient(
        config=config,
        config_error=config_error,
        root=root,
        in_daemon=in_daemon,
        kernel=running_kernel(),
        tree=functools.cache(lambda: usb_tree(root)),
        recipe=functools.cache(lambda: look_into(Path(config.work.recipe)) if config.work.recipe else None),
        clock_synchronised=clock_synchronised,
        now=lambda: datetime.now(UTC),
    )


def ok(said: str) -> Diagnosis:
    """All is well."""
    return Diagnosis(check="", level=Level.OK, said=said)


def warning(said: str, fix: str) -> Diagnosis:
    """May spoil work."""
    return Diagnosis(check="", level=Level.WARNING, said=said, fix=fix)


def problem(said: str, fix: str) -> Diagnosis:
    """Keeps boards from being made, or records from being safe."""
    return Diagnosis(check="", level=Level.PROBLEM, said=said, fix=fix)


def plural(count: int, one: str) -> str:
    """Return `1 programmer`, `2 programmers`."""
    return f"{count} {one}" if count == 1 else f"{count} {one}s"


def names(things: list[str], shown: int = 3) -> str:
    """Return a short list in words: `A1, A2, A3 and 2 more`."""
    more = len(things) - shown
    return ", ".join(things[:shown]) + (f" and {more} more" if more > 0 else "")
