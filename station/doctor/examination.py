"""The examination: the table of checks, in the order in which one thing hangs on the other, and how they are run.

Each check says at least one thing, unless another one has found what it would have to look at broken. What it may not or
cannot look at becomes a warning that says why; in the daemon, which systemd keeps from looking at much, what is forbidden is
left to a person's `station doctor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from station.adapters.host import host_facts
from station.config import Config
from station.doctor import bench, given, keeping, printing, system
from station.doctor.patient import Patient, Said, patient, problem, warning
from station.errors import ConfigurationError
from station.views import Diagnosis, Level

Check = Callable[[Patient], Said]
CHECKS: Mapping[str, Check] = {
    "configuration": keeping.configuration,
    "recipe": keeping.recipe,
    "secrets": given.secrets,
    "values": given.values,
    "numbers": given.numbers,
    "slots": keeping.slots,
    "driver": system.driver,
    "kernel": system.kernel,
    "udev": system.udev,
    "udev_rule": system.udev_rule,
    "brltty": system.brltty,
    "modemmanager": system.modemmanager,
    "permission": system.permission,
    "port": system.port,
    "hub_speed": bench.hub_speed,
    "hub_power": bench.hub_power,
    "autosuspend": bench.autosuspend,
    "baud": keeping.baud,
    "database": keeping.database,
    "filesystem": keeping.filesystem,
    "disk": keeping.disk,
    "backup": keeping.backup,
    "clock": keeping.clock,
    "label": printing.label,
}
"""Word -> check. The words are labels of a metric: a closed list."""
_AS_ROOT = "run it as root: sudo station doctor"


def examine(
    config: Config, *, config_error: ConfigurationError | None = None, root: Path = Path("/"), in_daemon: bool = False
) -> tuple[Diagnosis, ...]:
    """Look at everything once and return what was found, in the order of `CHECKS`; blocking, seconds at most.

    `config_error` is why the real configuration could not be loaded, with `config` the defaults in its place. `root` is
    where the machine's files are. `in_daemon` looks at the schema only and not through the whole database, and leaves
    out what the daemon's sandbox hides.
    """
    one = patient(
        config,
        config_error=config_error,
        root=root,
        in_daemon=in_daemon,
        clock_synchronised=lambda: host_facts("", "").clock_synchronised,
    )
    return examine_patient(one)


def examine_patient(one: Patient) -> tuple[Diagnosis, ...]:
    """Run every check on this one."""
    return tuple(found for word in CHECKS for found in _run(word, one))


def without_the_well(found: tuple[Diagnosis, ...]) -> tuple[Diagnosis, ...]:
    """Return what is not ok, problems first."""
    return tuple(
        diagnosis for level in (Level.PROBLEM, Level.WARNING) for diagnosis in found if diagnosis.level is level
    )


def _run(word: str, one: Patient) -> Iterator[Diagnosis]:
    """What one check says, and why it ended there when it could not look any further."""
    try:
        for each in CHECKS[word](one):
            yield replace(each, check=word)
    except ConfigurationError as error:
        said = problem(f"{error.file}: {error.key + ': ' if error.key else ''}{error.problem}", error.fix)
        yield replace(said, check=word)
    except PermissionError as error:
        if not one.in_daemon:
            yield replace(warning(f"cannot be looked at: {_in_words(error)}", _AS_ROOT), check=word)
    except OSError as error:
        fix = "look for the reason of that error"
        yield replace(warning(f"cannot be looked at: {_in_words(error)}", fix), check=word)


def _in_words(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
