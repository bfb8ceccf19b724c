"""Where the sockets of the bench are: the grid that labels make, the ports a place is made of, and a hub that moved. Pure.

A label of a row letter and a column number, `B3`, says where its socket stands; page, drawing and list derive the grid from
the labels alone. A place is an ID_PATH, whose chain of hub ports is the only part that changes when a hub is plugged into
another port of the PC: its tail stays. From one plug that is a suspicion and no more; it is never acted on without a person.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LETTERS = 26
MOST_ROWS, MOST_COLUMNS = 26, 32
_GRID_LABEL = re.compile(r"([A-Z]{1,2})([1-9][0-9]?)")
# systemd's path_id: the controller, `usb-0:`, the chain of ports, configuration and interface; ours: `:N` of several ports.
_PLACE = re.compile(r"(?P<host>.*usb-0):(?P<ports>\d+(?:\.\d+)*):(?P<interface>\d+\.\d+(?::\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Where a socket stands, counted from 0: row from the back, column from the left."""

    row: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedHub:
    """The sockets of one hub, or of a chain of hubs, that hang at another port now."""

    places: Mapping[str, str]
    """Label -> the place where its socket is now, in the order of the bench."""
    before: str
    """Ports of the first and last of them as they were, `2.1-2.8`."""
    now: str

    @property
    def labels(self) -> str:
        """The labels in a few characters, `A1-A8`."""
        return label_range(self.places)


def row_letters(row: int) -> str:
    """Return the letters of a row counted from 0: A to Z, then AA and so on."""
    letters, row = "", row + 1
    while row:
        row, letter = divmod(row - 1, LETTERS)
        letters = chr(ord("A") + letter) + letters
    return letters


def grid_labels(rows: int, columns: int) -> tuple[str, ...]:
    """Return the labels of a grid, row by row."""
    return tuple(f"{row_letters(row)}{column + 1}" for row in range(rows) for column in range(columns))


def cell_of(label: str) -> Cell | None:
    """Return where the socket of this label stands; None for a label that does not say."""
    found = _GRID_LABEL.fullmatch(label)
    if found is None:
        return None
    row = 0
    for letter in found[1]:
        row = row * LETTERS + ord(letter) - ord("A") + 1
    return Cell(row=row - 1, column=int(found[2]) - 1)


def grid_of(labels: Iterable[str]) -> tuple[int, int]:
    """Return rows and columns of the smallest grid from A1 on that has all these labels; 0, 0 when none says where it is."""
    cells = [cell for cell in map(cell_of, labels) if cell is not None]
    return max((cell.row + 1 for cell in cells), default=0), max((cell.column + 1 for cell in cells), default=0)


def bench_order(labels: Iterable[str]) -> list[str]:
    """Return the labels as the sockets stand, row by row; those that do not say where they stand come last."""

    def key(label: str) -> tuple[int, int, int, str]:
        cell = cell_of(label)
        return (0, cell.row, cell.column, label) if cell is not None else (1, 0, 0, label)

    return sorted(labels, key=key)


def label_range(labels: Iterable[str]) -> str:
    """Return labels in a few characters: `A1-A8`, `A1-B4` for a whole block, else the first ones by name."""
    ordered = bench_order(labels)
    if len(ordered) < 3:  # noqa: PLR2004 - two labels are said faster by name
        return ", ".join(ordered)
    first, last = cell_of(ordered[0]), cell_of(ordered[-1])
    if first is not None and last is not None:
        block = (last.row - first.row + 1) * (last.column - first.column + 1)
        in_one_row = first.row == last.row
        if block == len(ordered) and (in_one_row or first.column == 0):
            return f"{ordered[0]}-{ordered[-1]}"
    named = ", ".join(ordered[:3])
    return named if len(ordered) == 3 else f"{named} and {len(ordered) - 3} more"  # noqa: PLR2004


def drawing(rows: int, columns: int, *, done: Collection[str], wanted: str) -> str:
    """Return the grid in characters: `[x]` for what is done, `[?]` for the socket that is wanted now."""
    width = len(row_letters(rows - 1)) + 1
    lines = [" " * width + "".join(f"{column + 1:^4}" for column in range(columns)).rstrip()]
    for row in range(rows):
        labels = (f"{row_letters(row)}{column + 1}" for column in range(columns))
        boxes = ["[?]" if label == wanted else "[x]" if label in done else "[ ]" for label in labels]
        lines.append(f"{row_letters(row):<{width}}" + " ".join(boxes))
    return "\n".join(lines)


def hub_path_of(place: str) -> str:
    """Return the chain of ports in a place, `2.3`; empty where it has no such form."""
    found = _PLACE.fullmatch(place)
    return found["ports"] if found is not None else ""


def moved_hub(known_places: Mapping[str, str], attached_places: Iterable[str]) -> MovedHub | None:
    """Return the hub that seems to hang at another port now, judged by what is attached; None when nothing looks so.

    `known_places` is label -> place. Of several that fit, the one that explains most of the unknown places.
    """
    attached = frozenset(attached_places)
    strangers = sorted(attached - frozenset(known_places.values()))
    bench = _Bench(known_places)
    moves = {move for label in bench.places for place in strangers for move in bench.moves(label, place)}
    fitting = [moved for move in sorted(moves) if (moved := bench.after(move, attached)) and len(moved.places) > 1]
    return max(
        fitting,
        key=lambda moved: (sum(place in strangers for place in moved.places.values()), len(moved.places)),
        default=None,
    )


def moves_of(
    known_places: Mapping[str, str], label: str, place: str, attached_places: Iterable[str]
) -> tuple[MovedHub, ...]:
    """Return what may have moved if the socket of `label` is at `place` now, the widest reading first; empty: nothing.

    As much of the bench as has stood on one chain of hubs goes along; a reading is left out when something else stands
    where its sockets would be, or when something is attached where they were.
    """
    bench, attached = _Bench(known_places), frozenset(attached_places) | {place}
    found = (bench.after(move, attached) for move in reversed(list(bench.moves(label, place))))
    return tuple({moved.labels: moved for moved in found if moved is not None}.values())


@dataclass(frozen=True, slots=True)
class _Place:
    """A place, taken apart."""

    host: str
    ports: tuple[str, ...]
    interface: str

    def __str__(self) -> str:
        return f"{self.host}:{'.'.join(self.ports)}:{self.interface}"


def _parse(place: str) -> _Place | None:
    found = _PLACE.fullmatch(place)
    return _Place(found["host"], tuple(found["ports"].split(".")), found["interface"]) if found is not None else None


@dataclass(frozen=True, slots=True, order=True)
class _Move:
    """From one port of one controller to another one."""

    host: str
    ports: tuple[str, ...]
    new_host: str
    new_ports: tuple[str, ...]


class _Bench:
    """The known places, taken apart once; those of another form belong to no hub."""

    def __init__(self, known: Mapping[str, str]) -> None:
        parsed = ((label, _parse(known[label])) for label in bench_order(known))
        self.places = {label: place for label, place in parsed if place is not None}
        self._known = known

    def moves(self, label: str, place: str) -> Iterator[_Move]:
        """Yield the moves that bring this socket there: of the hub next to it first, then of the hub before that.

        A hub of seven ports is two chained ones: its sockets have tails of different lengths, and go together.
        """
        before, now = self.places.get(label), _parse(place)
        if before is None or now is None or before.interface != now.interface or before == now:
            return
        # A hub hangs at a port of the PC, so at least one port stays outside of what has moved.
        for depth in range(1, min(len(before.ports), len(now.ports))):
            if before.ports[-depth] != now.ports[-depth]:
                return
            yield _Move(before.host, before.ports[:-depth], now.host, now.ports[:-depth])

    def after(self, move: _Move, attached: frozenset[str]) -> MovedHub | None:
        """Return the sockets that this move takes along; None when what is attached or known contradicts it."""
        depth = len(move.ports)
        places = {
            label: str(_Place(move.new_host, (*move.new_ports, *place.ports[depth:]), place.interface))
            for label, place in self.places.items()
            if place.host == move.host and place.ports[:depth] == move.ports and len(place.ports) > depth
        }
        left = {self._known[label] for label in places} - set(places.values())
        taken = {place for label, place in self._known.items() if label not in places}
        if attached & left or taken & set(places.values()):
            return None
        return MovedHub(
            places=places,
            before=_port_range([self._known[label] for label in places]),
            now=_port_range(list(places.values())),
        )


def _port_range(places: Sequence[str]) -> str:
    """The chains of ports of the first and the last place, `2.1-2.8`."""
    first, last = hub_path_of(places[0]), hub_path_of(places[-1])
    return first if first == last else f"{first}-{last}"
