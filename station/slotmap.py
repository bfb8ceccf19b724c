"""Which place on the bench has which label, and what that slot is: the slot map and the properties of its slots.

What was taught and learned is one small JSON file in the state directory, `slots.json`, written whole or not at all; the
configuration overrides it. Labels run A1…A8, B1…B8 and so on. A place that is in neither is unknown: it is shown and never
flashed. What was learned of a slot counts where nothing is configured, and never makes a combination that `refusal`
refuses. Nothing here talks to udev or to a board.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from station.config import SLOT_LABEL, Config
from station.errors import ConfigurationError
from station.properties import Gpio0, Learned, Reset, SlotProperties, refusal
from station.sockets import row_letters

FILE_NAME = "slots.json"
SLOTS_PER_ROW = 8
CONFIGURED, DEFAULT = "configured", "default"
"""Evidence of a property that `[slots]` says of this slot, and of one that `[slot_defaults]` says of all."""
_BY_HAND = f"written into {FILE_NAME} by hand"
_TEACH = "delete the file and run: station slots teach"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownSlot:
    """One slot of the map."""

    label: str
    place: str
    properties: SlotProperties
    evidence: Mapping[str, str]
    """Property -> `configured`, `default`, or in words what it was learned from; without those that are not known."""
    adapter: str = ""
    """The kind of adapter with which something was learned; empty when nothing learned is in `properties`."""

    def properties_with(self, adapter: str) -> SlotProperties:
        """Return the properties while such an adapter is plugged in: what another kind taught says nothing about it."""
        if self.adapter in ("", adapter):
            return self.properties
        told = {name for name, source in self.evidence.items() if source in (CONFIGURED, DEFAULT)}
        return replace(
            self.properties,
            reset=self.properties.reset if "reset" in told else None,
            gpio0=self.properties.gpio0 if "gpio0" in told else None,
        )


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One slot in the file."""

    place: str
    adapter: str = ""
    """`usb_id version` of the programmer with which the rest was learned."""
    reset: Reset | None = None
    reset_evidence: str = ""
    gpio0: Gpio0 | None = None
    gpio0_evidence: str = ""


def load_slot_map(config: Config) -> dict[str, KnownSlot]:
    """Return label -> slot: what was taught and learned, with the configuration on top; raises `ConfigurationError`."""
    entries = _read(config.state_dir)
    places = _places(config, entries)
    for label in config.slots:
        if label not in places:
            raise ConfigurationError(
                file=str(config.state_dir / FILE_NAME),
                key=label,
                problem=f"no place was taught for this slot, and slots.{label} of the configuration names none",
                fix='write place = "ID_PATH" there, or run: station slots teach',
            )
    return {label: _known(config, label, place, entries.get(label)) for label, place in places.items()}


def known_places(config: Config) -> dict[str, str]:
    """Return label -> place of the slots that have a place already, be it that others wait to be taught.

    Raises `ConfigurationError`.
    """
    return _places(config, _read(config.state_dir))


def read_taught(state_dir: Path) -> dict[str, str]:
    """Return label -> place as `station slots teach` wrote it; empty when it never ran. Raises `ConfigurationError`."""
    return {label: entry.place for label, entry in _read(state_dir).items()}


def write_taught(state_dir: Path, slots: Mapping[str, str]) -> None:
    """Replace the taught places, whole or not at all; what was learned of a slot stays as long as its place does.

    A place that is given to another label here is taken from the one that had it. Raises OSError, `ConfigurationError`.
    """
    with _locked(state_dir) as directory:
        before = {label: entry for label, entry in _read(state_dir).items() if slots.get(label) == entry.place}
        given = {place for label, place in slots.items() if label not in before}
        entries = {
            label: before.get(label) or _Entry(place=place)
            for label, place in slots.items()
            if label not in before or place not in given
        }
        _write(state_dir, directory, entries)


def move_taught(state_dir: Path, places: Mapping[str, str]) -> None:
    """Put taught slots into other places, all of them or none; what was learned of each goes along.

    Raises KeyError for a label that was never taught, OSError, `ConfigurationError`.
    """
    with _locked(state_dir) as directory:
        entries = _read(state_dir)
        moved = {label: msgspec.structs.replace(entries[label], place=place) for label, place in places.items()}
        stayed = {
            label: entry for label, entry in entries.items() if label in moved or entry.place not in places.values()
        }
        _write(state_dir, directory, stayed | moved)


def remember(state_dir: Path, label: str, place: str, learned: Learned, *, adapter: str, at: datetime) -> None:
    """Keep what a visit found out about the slot of this label in this place, with the evidence.

    `adapter` is the kind of programmer, `usb_id version`. What was learned in another place or with another kind is
    forgotten; what is known already keeps its first evidence. Raises OSError, `ConfigurationError`.
    """
    with _locked(state_dir) as directory:
        entries = _read(state_dir)
        before = entries.get(label)
        same = before is not None and before.place == place and before.adapter in ("", adapter)
        entry = before if before is not None and same else _Entry(place=place)
        evidence = f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {adapter or 'unknown adapter'}: {learned.evidence}"
        if learned.reset is not None and (learned.reset != entry.reset or not entry.reset_evidence):
            entry = msgspec.structs.replace(entry, adapter=adapter, reset=learned.reset, reset_evidence=evidence)
        if learned.gpio0 is not None and (learned.gpio0 != entry.gpio0 or not entry.gpio0_evidence):
            entry = msgspec.structs.replace(entry, adapter=adapter, gpio0=learned.gpio0, gpio0_evidence=evidence)
        if entry == before:
            return
        others = {other: each for other, each in entries.items() if other == label or each.place != place}
        _write(state_dir, directory, {**others, label: entry})


def forget(state_dir: Path, label: str) -> bool:
    """Forget what was learned of this slot, never its place; False when there was nothing to forget.

    Raises OSError, `ConfigurationError`.
    """
    if label not in _read(state_dir):
        return False
    with _locked(state_dir) as directory:
        entries = _read(state_dir)
        bare = _Entry(place=entries[label].place)
        if entries[label] == bare:
            return False
        _write(state_dir, directory, {**entries, label: bare})
        return True


def label_number(number: int) -> str:
    """Return the label of the `number`-th slot, counted from 0: A1 to A8, then B1 to B8, and so on."""
    row, column = divmod(number, SLOTS_PER_ROW)
    return f"{row_letters(row)}{column + 1}"


def next_label(slots: Mapping[str, object]) -> str:
    """Return the first label that no slot of `slots` has."""
    number = 0
    while label_number(number) in slots:
        number += 1
    return label_number(number)


def _places(config: Config, entries: Mapping[str, _Entry]) -> dict[str, str]:
    configured = config.places
    free = {label: entry.place for label, entry in entries.items() if entry.place not in configured.values()}
    return {**free, **configured}


def _known(config: Config, label: str, place: str, entry: _Entry | None) -> KnownSlot:
    """The slot as configured, with what was learned in this very place where that is open and makes sense."""
    properties, section = config.slot_properties(label), config.slot_section(label)
    evidence = {
        name: CONFIGURED if getattr(section, name) is not None else DEFAULT
        for name in ("reset", "gpio0", "moves", "role")
        if getattr(properties, name) is not None
    }
    adapter = ""
    if entry is not None and entry.place == place:
        for name, found in (
            ("reset", Learned(evidence=entry.reset_evidence, reset=entry.reset)),
            ("gpio0", Learned(evidence=entry.gpio0_evidence, gpio0=entry.gpio0)),
        ):
            more = properties.learned(reset=found.reset, gpio0=found.gpio0)
            if more != properties and not refusal(more):
                properties, adapter = more, entry.adapter
                evidence[name] = found.evidence or _BY_HAND
    return KnownSlot(label=label, place=place, properties=properties, evidence=evidence, adapter=adapter)


def _read(state_dir: Path) -> dict[str, _Entry]:
    """Read the file, which a person may have edited; raises `ConfigurationError` that names file, key and fix."""
    path = state_dir / FILE_NAME
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"cannot be read ({error.strerror})", fix="correct its permissions"
        ) from None
    try:
        written = msgspec.json.decode(raw, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise ConfigurationError(file=str(path), problem=str(error), fix=f"correct that, or {_TEACH}") from None
    entries = {label: _entry(path, label, value) for label, value in written.items()}
    labels: dict[str, str] = {}
    for label, entry in entries.items():
        other = labels.setdefault(entry.place, label)
        if other != label:
            raise ConfigurationError(
                file=str(path),
                key=label,
                problem=f"the place {entry.place} is already {other}",
                fix=f"give each slot a place of its own, or {_TEACH}",
            )
    return entries


def _entry(path: Path, label: str, written: object) -> _Entry:
    """Check one slot of the file; in its first form it is just the place."""
    if not SLOT_LABEL.fullmatch(label):
        raise ConfigurationError(
            file=str(path), key=label, problem="not a slot label", fix="a letter, then up to 15 letters, digits, - or _"
        )
    try:
        entry = _Entry(place=written) if isinstance(written, str) else msgspec.convert(written, _Entry)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        kinds = {".reset": Reset, ".gpio0": Gpio0}
        kind = kinds.get(where.rstrip("`"))
        choices = f"write one of {', '.join(kind)}" if kind else "correct that"
        raise ConfigurationError(
            file=str(path), key=label + where.rstrip("`"), problem=problem, fix=f"{choices}, or {_TEACH}"
        ) from None
    if not entry.place:
        raise ConfigurationError(
            file=str(path), key=label, problem="empty place", fix=f"write its ID_PATH, or {_TEACH}"
        )
    return entry


@contextmanager
def _locked(state_dir: Path) -> Iterator[int]:
    """Hold the state directory while the map is changed: slots learn in threads, and a person may teach meanwhile."""
    state_dir.mkdir(parents=True, exist_ok=True)
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield directory
    finally:
        os.close(directory)


def _write(state_dir: Path, directory: int, entries: Mapping[str, _Entry]) -> None:
    """Put the new file in the place of the old one; after a loss of power there is one of the two, and it is whole."""
    path = state_dir / FILE_NAME
    draft = path.with_suffix(".new")
    owner = os.fstat(directory)
    with draft.open("wb") as file:
        if os.geteuid() == 0:
            # Taught by root, read and written on by the daemon as its own user.
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(msgspec.json.format(msgspec.json.encode(entries), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    os.fsync(directory)
