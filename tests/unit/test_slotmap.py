"""The slot map: which place has which label, what was taught and learned, and what the configuration says on top."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config import SLOT_LABEL, Config, SlotDefaultsSection, SlotSection, StationSection
from station.errors import ConfigurationError
from station.properties import Gpio0, Learned, Moves, Reset, Role, SlotProperties, refusal
from station.slotmap import (
    FILE_NAME,
    KnownSlot,
    forget,
    known_places,
    label_number,
    load_slot_map,
    move_taught,
    next_label,
    read_taught,
    remember,
    write_taught,
)

LABELS = st.integers(min_value=0, max_value=300).map(label_number)
PLACES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1)
NOON = datetime(2026, 11, 22, 12, 0, 59, tzinfo=UTC)
CH340 = "1a86:7523 0264"
PULSE = Learned(evidence="a pulse of RTS brought the ROM's boot message", reset=Reset.LINES)
PULSE_SAID = f"2026-11-22 12:00 UTC, {CH340}: a pulse of RTS brought the ROM's boot message"
JUMPER = Learned(evidence="the board came up in its firmware after a plug", gpio0=Gpio0.HAND)


def config(
    state_dir: Path, slots: Mapping[str, str | SlotSection] | None = None, defaults: SlotDefaultsSection | None = None
) -> Config:
    """A configuration with its state in `state_dir`."""
    return Config(
        station=StationSection(state_dir=str(state_dir)),
        slots=slots or {},
        slot_defaults=defaults or SlotDefaultsSection(),
    )


def places(slots: Mapping[str, KnownSlot]) -> dict[str, str]:
    """Label -> place."""
    assert all(label == slot.label for label, slot in slots.items())
    return {label: slot.place for label, slot in slots.items()}


def on_disk(state_dir: Path) -> Any:
    """What is in the file."""
    return json.loads((state_dir / FILE_NAME).read_text("utf-8"))


def by_hand(state_dir: Path, content: object) -> None:
    """A person edits the file."""
    (state_dir / FILE_NAME).write_text(json.dumps(content), "utf-8")


# -- labels ------------------------------------------------------------------------------------------------------------


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
    label = next_label(dict.fromkeys(taken, 7))
    assert label not in taken
    before = [label_number(number) for number in range(301)]
    assert set(before[: before.index(label)]) <= taken


# -- places ------------------------------------------------------------------------------------------------------------


@given(labels=st.lists(LABELS, unique=True, max_size=8), names=st.lists(PLACES, unique=True, min_size=8, max_size=8))
def test_a_taught_map_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], names: list[str]
) -> None:
    """Labels and places survive the file, whatever characters udev put into a place, and in the order they were taught."""
    slots = dict(zip(labels, names, strict=False))
    state_dir = tmp_path_factory.mktemp("state") / "made" / "on demand"
    write_taught(state_dir, slots)
    assert list(read_taught(state_dir).items()) == list(slots.items())
    assert list(places(load_slot_map(config(state_dir))).items()) == list(slots.items())


def test_slots_move_together_with_what_they_learned(tmp_path: Path) -> None:
    """All new places are there at once, also where one was another one's before; the rest of the map is as it was."""
    write_taught(tmp_path, {"A1": "hub:1", "A2": "hub:2", "B1": "hub:9"})
    for label, place in (("A1", "hub:1"), ("B1", "hub:9")):
        remember(tmp_path, label, place, PULSE, adapter=CH340, at=NOON)
    before = on_disk(tmp_path)
    move_taught(tmp_path, {"A1": "hub:2", "A2": "hub:3"})
    after = on_disk(tmp_path)
    assert after == {"A1": before["A1"] | {"place": "hub:2"}, "A2": {"place": "hub:3"}, "B1": before["B1"]}
    assert places(load_slot_map(config(tmp_path))) == {"A1": "hub:2", "A2": "hub:3", "B1": "hub:9"}
    with pytest.raises(KeyError):
        move_taught(tmp_path, {"A1": "hub:5", "Z9": "hub:6"})
    assert on_disk(tmp_path) == after


def test_a_station_that_was_never_taught_has_no_slots(tmp_path: Path) -> None:
    """Without a file the map is empty: every place is unknown, and nothing is guessed."""
    assert read_taught(tmp_path) == {}
    assert load_slot_map(config(tmp_path)) == {}
    assert known_places(config(tmp_path)) == {}


def test_the_configuration_wins_over_what_was_taught(tmp_path: Path) -> None:
    """A label in the configuration moves to its place, and a place in it loses the label it was taught."""
    write_taught(tmp_path, {"A1": "one", "A2": "two", "A3": "three"})
    mine = config(tmp_path, {"A1": SlotSection(place="four"), "left": "two"})
    merged = places(load_slot_map(mine))
    assert list(merged.items()) == [("A1", "four"), ("A3", "three"), ("left", "two")]
    assert known_places(mine) == merged


def test_a_table_without_a_place_is_the_taught_slot_of_that_label(tmp_path: Path) -> None:
    """Its place is the taught one; its properties those of the table."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    slots = load_slot_map(config(tmp_path, {"A2": SlotSection(role=Role.TEST)}))
    assert places(slots) == {"A1": "one", "A2": "two"}
    assert [slot.properties.role for slot in slots.values()] == ["make", "test"]


@pytest.mark.parametrize("taught", [{}, {"A1": "one"}, {"A2": "two"}])
def test_a_table_whose_place_nobody_knows_is_refused(tmp_path: Path, taught: dict[str, str]) -> None:
    """Never taught, or taught a place that is another slot's now: named, with the two ways out; the rest stays readable."""
    write_taught(tmp_path, taught)
    mine = config(tmp_path, {"A2": SlotSection(role=Role.TEST), "B1": "two"})
    with pytest.raises(ConfigurationError) as refused:
        load_slot_map(mine)
    error = refused.value
    assert (error.file, error.key) == (str(tmp_path / FILE_NAME), "A2")
    assert "slots.A2 of the configuration names none" in error.problem
    assert 'place = "ID_PATH"' in error.fix
    assert "station slots teach" in error.fix
    assert "A2" not in known_places(mine)
    assert known_places(mine)["B1"] == "two"


def test_the_map_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    """When the new map cannot be put in place the old one still stands, and never half of the new one."""
    write_taught(tmp_path, {"A1": "one"})
    (tmp_path / "slots.new").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_taught(tmp_path, {"A1": "other", "A2": "two"})
    with pytest.raises(OSError, match="Is a directory"):
        remember(tmp_path, "A1", "one", PULSE, adapter=CH340, at=NOON)
    assert read_taught(tmp_path) == {"A1": "one"}
    assert load_slot_map(config(tmp_path))["A1"].properties == SlotProperties()


def test_a_place_that_gets_a_new_label_loses_its_old_one(tmp_path: Path) -> None:
    """The configuration moved A1 away, so its taught place is free and is taught anew: the file never has it twice."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    write_taught(tmp_path, {**read_taught(tmp_path), "A3": "one"})
    assert read_taught(tmp_path) == {"A2": "two", "A3": "one"}
    write_taught(tmp_path, {**read_taught(tmp_path), "A2": "one"})
    assert read_taught(tmp_path) == {"A2": "one"}


def test_a_person_can_read_the_map(tmp_path: Path) -> None:
    """The file has one fact per line, and nothing of what is not known."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    remember(tmp_path, "A2", "two", PULSE, adapter=CH340, at=NOON)
    assert (tmp_path / FILE_NAME).read_text("utf-8") == (
        '{\n  "A1": {\n    "place": "one"\n  },\n  "A2": {\n    "place": "two",\n    "adapter": "1a86:7523 0264",\n'
        '    "reset": "lines",\n'
        f'    "reset_evidence": "{PULSE_SAID}"\n  }}\n}}\n'
    )


def test_the_first_form_of_the_file_is_still_read(tmp_path: Path) -> None:
    """A map of labels to places, as earlier versions wrote it, is a map of slots of which nothing is learned."""
    by_hand(tmp_path, {"A1": "one", "left": "two"})
    assert read_taught(tmp_path) == places(load_slot_map(config(tmp_path))) == {"A1": "one", "left": "two"}
    remember(tmp_path, "left", "two", JUMPER, adapter=CH340, at=NOON)
    assert load_slot_map(config(tmp_path))["left"].properties.gpio0 is Gpio0.HAND
    assert on_disk(tmp_path)["A1"] == {"place": "one"}


# -- what a person may have done to the file ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"{", b"", b"[]", b"7", b'{"A1": 3}', b'{"A1": null}', b'{"A1": []}', b"\xff\xfe"])
def test_a_damaged_map_is_refused_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    """A file that is no map of slots stops the start, names the file, and says how to make it anew."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        load_slot_map(config(tmp_path))
    assert refused.value.file == str(tmp_path / FILE_NAME)
    assert "station slots teach" in refused.value.fix
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "key", "says", "fix"),
    [
        ({"1A": "x"}, "1A", "not a slot label", "a letter, then"),
        ({"": {"place": "x"}}, "", "not a slot label", "a letter, then"),
        ({"A" * 17: "x"}, "A" * 17, "not a slot label", "15"),
        ({"A1": ""}, "A1", "empty place", "ID_PATH"),
        ({"A1": {"place": ""}}, "A1", "empty place", "ID_PATH"),
        ({"A1": {}}, "A1", "`place`", "station slots teach"),
        ({"A1": {"place": 7}}, "A1.place", "got `int`", "station slots teach"),
        ({"A1": {"place": "x", "rest": "none"}}, "A1", "`rest`", "station slots teach"),
        ({"A1": {"place": "x", "reset": "rts"}}, "A1.reset", "'rts'", "write one of lines, none"),
        ({"A1": {"place": "x", "reset": True}}, "A1.reset", "got `bool`", "write one of lines, none"),
        ({"A1": {"place": "x", "gpio0": "low"}}, "A1.gpio0", "'low'", "lines, hand, always_low, never_low"),
        ({"A1": {"place": "x", "role": "test"}}, "A1", "`role`", "station slots teach"),
        ({"A1": {"place": "x", "reset_evidence": 5}}, "A1.reset_evidence", "got `int`", "station slots teach"),
        ({"A1": "x", "A2": "x"}, "A2", "x is already A1", "of its own"),
        ({"A1": "x", "A2": {"place": "x", "reset": "none"}}, "A2", "x is already A1", "of its own"),
    ],
)
def test_a_mistake_in_the_map_names_file_key_problem_and_fix(
    tmp_path: Path, content: object, key: str, says: str, fix: str
) -> None:
    """Whoever edited the file reads which slot and key, what is wrong, and what to write instead; nothing is overwritten."""
    by_hand(tmp_path, content)
    before = (tmp_path / FILE_NAME).read_bytes()
    for use in (
        lambda: load_slot_map(config(tmp_path)),
        lambda: read_taught(tmp_path),
        lambda: write_taught(tmp_path, {"A1": "x"}),
        lambda: remember(tmp_path, "A1", "x", PULSE, adapter=CH340, at=NOON),
        lambda: forget(tmp_path, "A1"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            use()
        error = refused.value
        assert (error.file, error.key) == (str(tmp_path / FILE_NAME), key)
        assert says in error.problem
        assert fix in error.fix
        assert "\n" not in str(error)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_map_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A directory in the file's place, or a file without permission, is a message about that path."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(ConfigurationError, match=r"slots\.json: cannot be read \(Is a directory\)"):
        read_taught(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["A1", "place", "reset", "gpio0"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(content=JSON)
def test_no_content_of_the_file_is_more_than_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    """Whatever JSON stands in the file, it is a good map or one `ConfigurationError`, never another exception."""
    state_dir = tmp_path_factory.mktemp("state")
    by_hand(state_dir, content)
    try:
        slots = load_slot_map(config(state_dir))
    except ConfigurationError:
        return
    assert all(slot.place for slot in slots.values())
    assert not any(refusal(slot.properties) for slot in slots.values())


# -- what a slot is ----------------------------------------------------------------------------------------------------


def test_every_property_says_where_it_is_from(tmp_path: Path) -> None:
    """The slot's own table, the defaults of all, or what was learned and from what; the unknown has no evidence."""
    write_taught(tmp_path, {"A1": "one", "A2": "two", "A3": "three"})
    for label, place in read_taught(tmp_path).items():
        remember(tmp_path, label, place, PULSE, adapter=CH340, at=NOON)
    mine = config(
        tmp_path,
        {"A2": SlotSection(reset=Reset.NONE, role=Role.TEST), "A3": SlotSection(moves=Moves.EITHER)},
    )
    slots = load_slot_map(mine)
    assert slots["A1"].properties == SlotProperties(reset=Reset.LINES)
    assert slots["A1"].evidence == {"reset": PULSE_SAID, "moves": "default", "role": "default"}
    assert slots["A2"].properties == SlotProperties(reset=Reset.NONE, role=Role.TEST)
    assert slots["A2"].evidence == {"reset": "configured", "moves": "default", "role": "configured"}
    assert slots["A3"].properties == SlotProperties(reset=Reset.LINES, moves=Moves.EITHER)
    assert slots["A3"].evidence == {"reset": PULSE_SAID, "moves": "configured", "role": "default"}
    assert [slot.adapter for slot in slots.values()] == [CH340, "", CH340]


def test_configured_beats_defaults_beats_learned_beats_unknown(tmp_path: Path) -> None:
    """One value from each source on top of the other, taken away one by one."""
    write_taught(tmp_path, {"A1": "one"})
    remember(tmp_path, "A1", "one", JUMPER, adapter=CH340, at=NOON)
    table = {"A1": SlotSection(gpio0=Gpio0.LINES)}
    common = SlotDefaultsSection(gpio0=Gpio0.ALWAYS_LOW)

    def gpio0(mine: Config) -> tuple[Gpio0 | None, str]:
        slot = load_slot_map(mine)["A1"]
        return slot.properties.gpio0, slot.evidence.get("gpio0", "")

    assert gpio0(config(tmp_path, table, common)) == (Gpio0.LINES, "configured")
    assert gpio0(config(tmp_path, {}, common)) == (Gpio0.ALWAYS_LOW, "default")
    assert gpio0(config(tmp_path)) == (Gpio0.HAND, f"2026-11-22 12:00 UTC, {CH340}: {JUMPER.evidence}")
    assert forget(tmp_path, "A1")
    assert gpio0(config(tmp_path)) == (None, "")


@pytest.mark.parametrize(
    ("learned", "configured", "left"),
    [
        (Learned(evidence="e", gpio0=Gpio0.LINES), SlotSection(reset=Reset.NONE), {"reset": "none", "gpio0": None}),
        (Learned(evidence="e", reset=Reset.NONE), SlotSection(gpio0=Gpio0.LINES), {"reset": None, "gpio0": "lines"}),
        (Learned(evidence="e", gpio0=Gpio0.NEVER_LOW), SlotSection(role=Role.FLASH), {"reset": None, "gpio0": None}),
        (Learned(evidence="e", gpio0=Gpio0.ALWAYS_LOW), SlotSection(role=Role.TEST), {"reset": None, "gpio0": None}),
        (
            Learned(evidence="e", reset=Reset.LINES, gpio0=Gpio0.ALWAYS_LOW),
            SlotSection(role=Role.TEST),
            {"reset": "lines", "gpio0": None},
        ),
        (
            Learned(evidence="e", reset=Reset.NONE, gpio0=Gpio0.LINES),
            SlotSection(),
            {"reset": "none", "gpio0": None},
        ),
    ],
)
def test_what_was_learned_and_contradicts_is_dropped(
    tmp_path: Path, learned: Learned, configured: SlotSection, left: dict[str, str | None]
) -> None:
    """A learned value that makes no sense beside a configured or another learned one does not count, and stops nothing."""
    write_taught(tmp_path, {"A1": "one"})
    remember(tmp_path, "A1", "one", learned, adapter=CH340, at=NOON)
    slot = load_slot_map(config(tmp_path, {"A1": configured}))["A1"]
    assert refusal(slot.properties) == ""
    assert {"reset": slot.properties.reset, "gpio0": slot.properties.gpio0} == left
    assert {name for name in left if name in slot.evidence} == {name for name, value in left.items() if value}


def test_a_value_written_by_hand_counts_and_says_so(tmp_path: Path) -> None:
    """Somebody who edits the file need not invent an evidence."""
    by_hand(tmp_path, {"A1": {"place": "one", "reset": "none"}})
    slot = load_slot_map(config(tmp_path))["A1"]
    assert (slot.properties.reset, slot.evidence["reset"]) == ("none", "written into slots.json by hand")
    assert slot.properties_with(CH340) == slot.properties


# -- learning and forgetting -------------------------------------------------------------------------------------------


def test_what_a_visit_learned_is_remembered_with_its_evidence(tmp_path: Path) -> None:
    """Time in UTC, the kind of adapter, and from what; the second thing learned goes beside the first."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    berlin = timezone(timedelta(hours=1))
    remember(tmp_path, "A2", "two", PULSE, adapter=CH340, at=NOON.astimezone(berlin))
    remember(tmp_path, "A2", "two", JUMPER, adapter=CH340, at=NOON + timedelta(days=1))
    assert on_disk(tmp_path) == {
        "A1": {"place": "one"},
        "A2": {
            "place": "two",
            "adapter": CH340,
            "reset": "lines",
            "reset_evidence": PULSE_SAID,
            "gpio0": "hand",
            "gpio0_evidence": f"2026-11-23 12:00 UTC, {CH340}: {JUMPER.evidence}",
        },
    }


def test_what_is_known_keeps_its_first_evidence_and_what_is_not_so_is_corrected(tmp_path: Path) -> None:
    """The same value again leaves the file alone; another value replaces it, with its own evidence."""
    remember(tmp_path, "A1", "one", PULSE, adapter=CH340, at=NOON)
    before = (tmp_path / FILE_NAME).stat().st_ino
    remember(tmp_path, "A1", "one", PULSE, adapter=CH340, at=NOON + timedelta(days=1))
    assert (tmp_path / FILE_NAME).stat().st_ino == before
    assert on_disk(tmp_path)["A1"]["reset_evidence"] == PULSE_SAID
    silence = Learned(evidence="no pulse brought anything", reset=Reset.NONE)
    remember(tmp_path, "A1", "one", silence, adapter=CH340, at=NOON)
    entry = on_disk(tmp_path)["A1"]
    assert (entry["reset"], entry["reset_evidence"].partition(": ")[2]) == ("none", silence.evidence)


def test_a_slot_that_is_only_configured_gets_an_entry_with_its_place(tmp_path: Path) -> None:
    """What is learned needs a place to hang on; the configuration goes on deciding where the slot is."""
    mine = config(tmp_path / "state", {"left": "four"})
    remember(mine.state_dir, "left", "four", PULSE, adapter=CH340, at=NOON)
    assert read_taught(mine.state_dir) == {"left": "four"}
    assert load_slot_map(mine)["left"].properties.reset is Reset.LINES
    moved = load_slot_map(config(mine.state_dir, {"left": "five"}))
    assert places(moved) == {"left": "five"}
    assert moved["left"].properties.reset is None


def test_a_place_is_remembered_under_one_label_only(tmp_path: Path) -> None:
    """A configured slot in a place that was taught another label takes it over in the file, and the file stays good."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    mine = config(tmp_path, {"left": "two"})
    remember(tmp_path, "left", "two", PULSE, adapter=CH340, at=NOON)
    assert read_taught(tmp_path) == {"A1": "one", "left": "two"}
    assert places(load_slot_map(mine)) == {"A1": "one", "left": "two"}


@pytest.mark.parametrize(("place", "adapter"), [("two", CH340), ("one", "1a86:55d4 0445"), ("one", "1a86:7523 0254")])
def test_another_place_or_another_kind_of_adapter_forgets_what_was_learned(
    tmp_path: Path, place: str, adapter: str
) -> None:
    """What an earlier programmer could do says nothing about this one: only the new finding is left."""
    remember(tmp_path, "A1", "one", PULSE, adapter=CH340, at=NOON)
    remember(tmp_path, "A1", place, JUMPER, adapter=adapter, at=NOON)
    assert on_disk(tmp_path)["A1"] == {
        "place": place,
        "adapter": adapter,
        "gpio0": "hand",
        "gpio0_evidence": f"2026-11-22 12:00 UTC, {adapter}: {JUMPER.evidence}",
    }


def test_what_was_learned_counts_only_for_the_kind_of_adapter_that_taught_it(tmp_path: Path) -> None:
    """With another kind in the socket the learned half is unknown again; what is configured stays."""
    remember(tmp_path, "A1", "one", JUMPER, adapter=CH340, at=NOON)
    slot = load_slot_map(config(tmp_path, {"A1": SlotSection(reset=Reset.NONE)}))["A1"]
    assert slot.properties == slot.properties_with(CH340) == SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND)
    assert slot.properties_with("1a86:55d4 0445") == SlotProperties(reset=Reset.NONE)
    configured = load_slot_map(config(tmp_path, {"A1": SlotSection(gpio0=Gpio0.LINES)}))["A1"]
    assert configured.properties_with("1a86:55d4 0445") == SlotProperties(gpio0=Gpio0.LINES)


def test_teaching_keeps_what_was_learned_where_the_place_stays(tmp_path: Path) -> None:
    """A new slot beside the old ones costs them nothing; a slot that moves starts anew."""
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    for label, place in read_taught(tmp_path).items():
        remember(tmp_path, label, place, PULSE, adapter=CH340, at=NOON)
    write_taught(tmp_path, {**read_taught(tmp_path), "A2": "elsewhere", "A3": "three"})
    found = {label: slot.properties.reset for label, slot in load_slot_map(config(tmp_path)).items()}
    assert found == {"A1": "lines", "A2": None, "A3": None}


def test_forgetting_leaves_the_place_and_the_other_slots(tmp_path: Path) -> None:
    """Only what was learned of that slot goes; twice is once, and a slot that nobody knows is none."""
    assert not forget(tmp_path / "nowhere", "A1")
    assert not (tmp_path / "nowhere").exists()
    write_taught(tmp_path, {"A1": "one", "A2": "two"})
    for label, place in read_taught(tmp_path).items():
        remember(tmp_path, label, place, PULSE, adapter=CH340, at=NOON)
    assert forget(tmp_path, "A1")
    assert not forget(tmp_path, "A1")
    assert not forget(tmp_path, "Z9")
    assert on_disk(tmp_path)["A1"] == {"place": "one"}
    assert {label: slot.properties.reset for label, slot in load_slot_map(config(tmp_path)).items()} == {
        "A1": None,
        "A2": "lines",
    }


def test_slots_that_learn_at_the_same_moment_lose_nothing(tmp_path: Path) -> None:
    """Every slot learns in a thread of its own; at the end all of it is in the file."""
    write_taught(tmp_path, {label_number(number): f"hub:{number}" for number in range(16)})

    def learn(number: int) -> None:
        learned = Learned(evidence=f"seen by {number}", reset=Reset.LINES)
        remember(tmp_path, label_number(number), f"hub:{number}", learned, adapter=CH340, at=NOON)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(learn, range(16)))
    slots = load_slot_map(config(tmp_path))
    assert len(slots) == 16
    assert all(slot.evidence["reset"].endswith(f"seen by {number}") for number, slot in enumerate(slots.values()))
