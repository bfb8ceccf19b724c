"""The grid that labels make, and hubs that move: any tree of hubs, any chain that is plugged in elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.slotmap import label_number
from station.sockets import (
    MovedHub,
    bench_order,
    cell_of,
    drawing,
    grid_labels,
    grid_of,
    hub_path_of,
    label_range,
    moved_hub,
    moves_of,
    row_letters,
)

PC, OTHER = "pci-0000:00:14.0-usb-0", "platform-fd500000.pcie-pci-0000:01:00.0-usb-0"
SEVEN_PORTS = ("1", "2", "3", "4.1", "4.2", "4.3", "4.4")
"""A hub of seven ports, as the kernel sees it: one of four, with another one of four in its last port."""

PORT = st.integers(1, 9).map(str)


def place(ports: str, host: str = PC, interface: str = "1.0") -> str:
    """An ID_PATH as udev's path_id writes it."""
    return f"{host}:{ports}:{interface}"


def bench(prefix: str, tails: tuple[str, ...] = SEVEN_PORTS, row: str = "A", host: str = PC) -> dict[str, str]:
    """Label -> place of the sockets of one hub at this port."""
    return {f"{row}{number + 1}": place(f"{prefix}.{tail}", host) for number, tail in enumerate(tails)}


@st.composite
def hub_trees(draw: st.DrawFn) -> tuple[str, ...]:
    """The ports of all sockets of one hub, with hubs in its ports, and hubs in theirs."""

    def tails(depth: int) -> list[str]:
        found = []
        for port in draw(st.lists(PORT, min_size=2 if depth == 0 else 1, max_size=4, unique=True)):
            deeper = depth < 3 and draw(st.booleans())
            found += [f"{port}.{tail}" for tail in tails(depth + 1)] if deeper else [port]
        return found

    return tuple(tails(0))


ROOTS = st.lists(PORT, min_size=1, max_size=3).map(".".join)


# --- the grid --------------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 32))
def test_a_grid_is_found_again_in_its_labels(rows: int, columns: int) -> None:
    """The labels of a grid stand in reading order, each says where it is, and together they make that grid again."""
    labels = grid_labels(rows, columns)
    cells = [cell_of(label) for label in labels]
    assert [(cell.row, cell.column) for cell in cells if cell] == [(r, c) for r in range(rows) for c in range(columns)]
    assert grid_of(reversed(labels)) == (rows, columns)
    assert bench_order(reversed(labels)) == list(labels)


@given(st.integers(0, 700))
def test_labels_that_are_only_counted_are_a_grid_of_eight_columns(number: int) -> None:
    """The labels that enrolling gives stand in rows of eight."""
    cell = cell_of(label_number(number))
    assert cell is not None
    assert (cell.row, cell.column) == divmod(number, 8)
    assert label_number(number) == f"{row_letters(number // 8)}{number % 8 + 1}"


@pytest.mark.parametrize("label", ["left", "A", "A0", "A100", "a1", "A1x", "ABC1", "T-1", "7", ""])
def test_other_labels_say_nothing_of_where_they_are(label: str) -> None:
    """A label of another form has no cell, and comes after those that have one."""
    assert cell_of(label) is None
    assert bench_order([label, "B2", "A9"]) == ["A9", "B2", label]


def test_a_drawing_shows_what_is_done_and_what_is_wanted() -> None:
    """The grid in characters: rows by letter, columns by number."""
    assert drawing(2, 3, done={"A1", "left"}, wanted="A2").splitlines() == [
        "   1   2   3",
        "A [x] [?] [ ]",
        "B [ ] [ ] [ ]",
    ]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["A1"], "A1"),
        (["A2", "A1"], "A1, A2"),
        (grid_labels(1, 8), "A1-A8"),
        (grid_labels(2, 4), "A1-B4"),
        (["A3", "A4", "A5"], "A3-A5"),
        (["A1", "A2", "A4"], "A1, A2, A4"),
        (["A7", "A8", "B1", "B2"], "A7, A8, B1 and 1 more"),
        (["left", "A1", "right"], "A1, left, right"),
    ],
)
def test_many_labels_are_said_in_few_characters(labels: list[str], said: str) -> None:
    """Only labels that are a whole block are said as a range: a range never names a slot that is not meant."""
    assert label_range(labels) == said


# --- a hub that moved -------------------------------------------------------------------------------------------------


@given(hub_trees(), ROOTS, ROOTS, st.sampled_from([PC, OTHER]), st.data())
def test_one_plug_takes_the_whole_tree_along(
    tails: tuple[str, ...], before: str, now: str, host: str, data: st.DataObject
) -> None:
    """Any tree of hubs that is plugged in at another port is found again by a plug into any one of its sockets."""
    known, moved = bench(before, tails), bench(now, tails, host=host)
    if set(known.values()) & set(moved.values()):
        return
    label = data.draw(st.sampled_from(sorted(known)))
    readings = moves_of(known, label, moved[label], ())
    assert moved in [dict(reading.places) for reading in readings]
    assert all(reading.places[label] == moved[label] for reading in readings)
    assert [len(each.places) for each in readings] == sorted((len(each.places) for each in readings), reverse=True)


@given(hub_trees(), ROOTS, ROOTS, st.sampled_from([PC, OTHER]))
def test_a_hub_full_of_programmers_is_seen_to_have_moved(
    tails: tuple[str, ...], before: str, now: str, host: str
) -> None:
    """When every socket's programmer turns up elsewhere in the same order, that is the one thing that is suspected."""
    known, moved = bench(before, tails), bench(now, tails, host=host)
    if set(known.values()) & set(moved.values()):
        return
    found = moved_hub(known, moved.values())
    assert found is not None
    assert dict(found.places) == moved


@given(hub_trees(), ROOTS, st.sets(st.integers(0, 40)), st.sets(st.builds(place, ROOTS)))
def test_nothing_is_suspected_of_a_hub_with_a_programmer_where_it_was(
    tails: tuple[str, ...], root: str, seated: set[int], strangers: set[str]
) -> None:
    """A socket that is taken along is empty in its old place, its new place belongs to nobody, and its tail is the same."""
    known = bench(root, tails)
    attached = {each for number, each in enumerate(known.values()) if number in seated} | strangers
    found = moved_hub(known, attached)
    if found is None:
        return
    assert set(found.places.values()) & (attached - set(known.values()))
    for label, new in found.places.items():
        assert known[label] not in attached
        assert hub_path_of(new).split(".")[-1] == hub_path_of(known[label]).split(".")[-1]
    others = {each for label, each in known.items() if label not in found.places}
    assert not others & set(found.places.values())


def test_seven_ports_go_together() -> None:
    """The sockets of two chained hubs have tails of different lengths; a plug into either end moves all seven."""
    known, moved = bench("2"), bench("3")
    for label in ("A1", "A7"):
        widest = moves_of(known, label, moved[label], ())[0]
        assert dict(widest.places) == moved
        assert (widest.labels, widest.before, widest.now) == ("A1-A7", "2.1-2.4.4", "3.1-3.4.4")


def test_the_narrower_reading_is_there_too() -> None:
    """The inner hub alone may have been carried into the fourth port of another one: that is asked after the whole chain."""
    readings = moves_of(bench("2"), "A5", place("3.4.2"), ())
    assert [(each.labels, each.now) for each in readings] == [("A1-A7", "3.1-3.4.4"), ("A4-A7", "3.4.1-3.4.4")]
    still_there = moves_of(bench("2"), "A5", place("3.4.2"), [place("2.1")])
    assert [each.labels for each in still_there] == ["A4-A7"]


def test_hubs_that_stay_are_left_alone() -> None:
    """Only the hub of the plug goes along; what hangs at the PC's other ports stays where it is."""
    known = bench("2") | bench("5", row="B")
    (moved,) = moves_of(known, "B2", place("6.2"), ())
    assert dict(moved.places) == bench("6", row="B")


@pytest.mark.parametrize(
    ("known", "label", "now"),
    [
        (bench("2"), "A1", place("3.2")),  # another socket of the hub
        (bench("2"), "A1", place("3.1", interface="1.1")),
        (bench("2"), "A1", place("3.1", interface="1.0:1")),
        ({"A1": place("2")}, "A1", place("3")),  # no hub at all
        ({"A1": "pci:1"}, "A1", place("3.1")),
        (bench("2"), "A1", "pci:1"),
        (bench("2"), "Z1", place("3.1")),
        (bench("2") | bench("3", row="B"), "A1", place("3.1")),  # that is B1
        (bench("2"), "A1", place("2.1")),
    ],
)
def test_what_cannot_have_moved_is_not_suspected(known: dict[str, str], label: str, now: str) -> None:
    """Another port of the hub, another interface, a place of another form or of another slot: no reading at all."""
    assert moves_of(known, label, now, ()) == ()


def test_one_slot_alone_is_no_hub() -> None:
    """A single known slot is too little to warn the whole bench; a person may still say that it moved."""
    assert moved_hub({"A1": place("2.1")}, [place("3.1")]) is None
    (moved,) = moves_of({"A1": place("2.1")}, "A1", place("3.1"), ())
    assert moved == MovedHub(places={"A1": place("3.1")}, before="2.1", now="3.1")


def test_the_hub_that_explains_most_is_named() -> None:
    """Of two hubs that are not there, it is the one whose sockets fit more of the unknown places."""
    known = bench("2", ("1", "2")) | bench("5", ("1", "2", "3"), row="B")
    found = moved_hub(known, [place(f"7.{port}") for port in (1, 2, 3)])
    assert found is not None
    assert found.labels == "B1-B3"
