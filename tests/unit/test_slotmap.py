"""The slot map: which place has which label, what was taught and what the configuration says on top."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config import SLOT_LABEL, Config, StationSection
from station.errors import ConfigurationError
from station.slotmap import FILE_NAME, label_number, load_slot_map, next_label, read_taught, write_taught

LABELS = st.integers(min_value=0, max_value=300).map(label_number)


def config(state_dir: Path, slots: dict[str, str] | None = None) -> Config:
    """A configuration with its state in `state_dir`."""
    return Config(station=StationSection(state_dir=str(state_dir)), slots=slots or {})


def test_labels_run_in_rows_of_eight() -> None:
    """A1 to A8, then B1 to B8, and after Z8 come AA1 to AA8."""
    assert [label_number(number) for number in (0, 7, 8, 15, 207, 208, 215, 216)] == [
        "A1",
        "A8",
        "B1",
        "B8",
        "Z8",
        "AA1",
        "AA8",
        "AB1",
    ]


@given(numbers=st.sets(st.integers(min_value=0, max_value=10_000)))
def test_no_two_slots_have_one_label(numbers: set[int]) -> None:
    """Different numbers give different labels, and every one is a label that a configuration accepts."""
    labels = {label_number(number) for number in numbers}
    assert len(labels) == len(numbers)
    assert all(SLOT_LABEL.fullmatch(label) for label in labels)


@given(taken=st.sets(LABELS))
def test_the_next_label_is_the_first_free_one(taken: set[str]) -> None:
    """A gap in the row is filled before a new label is begun, and no label is given twice."""
    label = next_label(dict.fromkeys(taken, "somewhere"))
    assert label not in taken
    before = [label_number(number) for number in range(301)]
    assert set(before[: before.index(label)]) <= taken


@given(slots=st.dictionaries(LABELS, st.text(alphabet=st.characters(exclude_categories=["Cs"]))))
def test_a_taught_map_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, slots: dict[str, str]
) -> None:
    """Labels and places survive the file, whatever characters udev put into a place."""
    state_dir = tmp_path_factory.mktemp("state") / "made" / "on demand"
    write_taught(state_dir, slots)
    assert read_taught(state_dir) == slots


def test_a_station_that_was_never_taught_has_no_slots(tmp_path: Path) -> None:
    """Without a file the map is empty: every place is unknown, and nothing is guessed."""
    assert read_taught(tmp_path) == {}
    assert load_slot_map(config(tmp_path)) == {}


def test_the_configuration_wins_over_what_was_taught(tmp_path: Path) -> None:
    """A label in the configuration moves to its place, and a place in it loses the label it was taught."""
    write_taught(tmp_path, {"A1": "one", "A2": "two", "A3": "three"})
    merged = load_slot_map(config(tmp_path, {"A1": "four", "left": "two"}))
    assert merged == {"A1": "four", "left": "two", "A3": "three"}
    assert len(set(merged.values())) == len(merged)


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b'{"A1": 3}', b'{"A1": null}', b"\xff\xfe"])
def test_a_damaged_map_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    """A file that is no map of labels to places stops the start, names the file, and says how to make it anew."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        load_slot_map(config(tmp_path))
    assert refused.value.file == str(tmp_path / FILE_NAME)
    assert "station slots teach" in refused.value.fix


def test_a_map_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A directory in the file's place, or a file without permission, is a message about that path."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigurationError, match=r"slots\.json: cannot be read \(Is a directory\)"):
        read_taught(tmp_path)


def test_the_map_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """When the new map cannot be put in place the old one still stands, and never half of the new one."""
    write_taught(tmp_path, {"A1": "one"})
    (tmp_path / "slots.new").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_taught(tmp_path, {"A1": "other", "A2": "two"})
    assert read_taught(tmp_path) == {"A1": "one"}


def test_a_person_can_read_the_map(tmp_path: Path) -> None:
    """The file has one slot per line."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    assert (tmp_path / FILE_NAME).read_text("utf-8") == '{\n  "A1": "one",\n  "A2": "two"\n}\n'
