"""Which place on the bench has which label: the slot map, kept in the state directory, overridden by the configuration.

The map is one small JSON file, `slots.json`, written whole and atomically. Labels run A1…A8, B1…B8 and so on. A place that
is in neither is unknown: it is shown and never flashed. Nothing here talks to udev.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from station.config import Config
from station.errors import ConfigurationError

FILE_NAME = "slots.json"
SLOTS_PER_ROW = 8


def load_slot_map(config: Config) -> dict[str, str]:
    """Return label -> place: what was taught, with `[slots]` of the configuration on top; raises `ConfigurationError`."""
    taught = read_taught(config.state_dir)
    overridden = {label: place for label, place in taught.items() if place not in config.slots.values()}
    return {**overridden, **config.slots}


def read_taught(state_dir: Path) -> dict[str, str]:
    """Return the map that `station slots teach` wrote; empty when it never ran. Raises `ConfigurationError`."""
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
        return msgspec.json.decode(raw, type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ConfigurationError(
            file=str(path), problem=str(error), fix="delete the file and run: station slots teach"
        ) from None


def write_taught(state_dir: Path, slots: Mapping[str, str]) -> None:
    """Replace the taught map, whole or not at all."""
    state_dir.mkdir(parents=True, exist_ok=True)
    path = state_dir / FILE_NAME
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(dict(slots)), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def label_number(number: int) -> str:
    """Return the label of the `number`-th slot, counted from 0: A1 to A8, then B1 to B8, and so on."""
    row, column = divmod(number, SLOTS_PER_ROW)
    letters = ""
    row += 1
    while row:
        row, letter = divmod(row - 1, 26)
        letters = chr(ord("A") + letter) + letters
    return f"{letters}{column + 1}"


def next_label(slots: Mapping[str, str]) -> str:
    """Return the first label that no slot of `slots` has."""
    number = 0
    while label_number(number) in slots:
        number += 1
    return label_number(number)
