"""Whatever slots a board goes through, however it is put in and whatever breaks: what never happens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from station.errors import (
    BootLooping,
    FilesystemCorrupt,
    LinkCorrupt,
    LinkSilent,
    NothingBoots,
    PortGone,
    ReplGarbage,
    ReplSilent,
)
from station.jobrun import required_evidence
from station.model import BootEvidence, CommittedJob, JobState, Outcome, StopCause
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties, refusal
from station.recipe import Recipe
from tests.unit.job_rig import Shown, Station, image, recipe_for, writes
from tests.unit.scripted_board import OTHER_MAC, InstantStop, ScriptedBoard

SLOTS = [
    properties
    for reset in (*Reset, None)
    for gpio0 in (*Gpio0, None)
    for moves in (Moves.PROGRAMMER, Moves.BOARD)
    for role in Role
    if not refusal(properties := SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role))
]
POLICIES = (
    "",
    'run_mode_board = "test"\n',
    'run_mode_board = "refuse"\ncold_boot = "all"\n',
    'cold_boot = "every 2"\n',
)
STEPS = (
    "connect",
    "identity",
    "stub",
    "chip",
    "erase",
    "half",
    "md5",
    "start",
    "prompt",
    "run",
    "soft reset",
    "presence",
)
ERRORS = (
    LinkSilent("s"),
    LinkCorrupt("c"),
    PortGone("g"),
    NothingBoots("n"),
    BootLooping("b"),
    FilesystemCorrupt("f"),
    ReplSilent("s"),
    ReplGarbage("g"),
    KeyError("bug"),
)
HARDWARE = (BootEvidence.RESET_LINE, BootEvidence.COLD)
ONE_VISIT = st.fixed_dictionaries(
    {
        "board": st.sampled_from([0, 0, 0, 1]),
        "slot": st.sampled_from(["A1", "B2"]),
        "properties": st.sampled_from(SLOTS),
        "gpio0": st.sampled_from(["lines", "low", "free"]),
        "obeys": st.booleans(),
        "faults": st.dictionaries(
            st.sampled_from(STEPS), st.tuples(st.integers(0, 6), st.sampled_from(ERRORS)), max_size=2
        ),
        "ignores_start": st.booleans(),
        "stop": st.none() | st.tuples(st.sampled_from(STEPS), st.sampled_from(list(StopCause))),
    }
)


def plugged(board: ScriptedBoard, visit, stop: InstantStop) -> None:
    """The hand puts the board in, as the slot wants it or as it likes; then things go wrong."""
    properties: SlotProperties = visit["properties"]
    wanted = {Gpio0.ALWAYS_LOW: "low", Gpio0.NEVER_LOW: "free", Gpio0.LINES: "lines"}.get(
        properties.gpio0 or Gpio0.HAND, visit["gpio0"]
    )
    lines = properties.reset is not Reset.NONE
    gpio0 = wanted if visit["obeys"] or visit["gpio0"] == "lines" else visit["gpio0"]
    board.plug_in(gpio0 if lines or gpio0 != "lines" else "low", lines=lines)
    board.script.clear()
    board.journal.clear()
    for step, (after, error) in visit["faults"].items():
        board.on(step, [*[None] * after, error])
    if visit["ignores_start"] and "start" not in visit["faults"]:
        board.on("start", [lambda: "ignored"] * 9)
    if visit["stop"] is not None:
        step, cause = visit["stop"]
        board.on(step, [lambda: stop.request(cause)])


def check_flash(board: ScriptedBoard, before: bytes, properties: SlotProperties, *, waiting: bool) -> None:
    """Boards that wait are not written, nor is anything in a slot that only reads; and no byte before the row."""
    if waiting or properties.role in (Role.TEST, Role.INSPECT):
        assert bytes(board.flash) == before
        assert writes(board) == 0
    if bytes(board.flash) != before:
        erase = next(event for event in board.journal if event.startswith("erase"))
        assert "job row running" in board.journal[: board.journal.index(erase)]


def check_resets(journal: list[str], properties: SlotProperties) -> None:
    """No line is moved where none resets, and no chip is reset by software after a start by software."""
    if properties.reset is Reset.NONE:
        assert not any(event.startswith(("reset", "pulse")) for event in journal)
    if "start firmware" in journal:
        assert "machine.reset" not in journal[journal.index("start firmware") :]


def check_job(shown: Shown, job: CommittedJob, properties: SlotProperties, recipe: Recipe) -> None:
    """A PASS is a good board by all its evidence; what waits was flashed."""
    assert properties.role is not Role.INSPECT
    end = shown.records.ends[job.id]
    if job.state is JobState.PENDING:
        assert (job.mac, end.flash_touched) == (shown.board.mac, True)
    if job.outcome is Outcome.PASS:
        assert properties.tests
        assert bytes(shown.board.flash) == image()
        within = {each.name for each in job.measurements if each.within}
        assert within >= set(required_evidence(recipe, flashed=end.flash_touched))
        assert end.boot_evidence in (*((BootEvidence.SOFT,) if recipe.policy.cold_boot != "all" else ()), *HARDWARE)


@given(policy=st.sampled_from(POLICIES), visits=st.lists(ONE_VISIT, min_size=1, max_size=5))
@settings(max_examples=300, deadline=None)
def test_whatever_happens_between_plugs_what_never_may_does_not(policy: str, visits) -> None:
    """Reading slots never write, waiting boards are never written, only PASS and FAIL close them, no reset after soft."""
    recipe = recipe_for(f"[policy]\n{policy}")
    station = Station(recipe)
    boards = [ScriptedBoard(lines=False), ScriptedBoard(lines=False, mac=OTHER_MAC)]
    for visit in visits:
        board, properties = boards[visit["board"]], visit["properties"]
        stop = InstantStop(board.clock, deadline_s=400)
        plugged(board, visit, stop)
        before, waiting = bytes(board.flash), station.records.pending_job(board.mac)
        shown = station.visit(board, properties, slot=visit["slot"], stop=stop, test_slots=("T1",))
        check_flash(board, before, properties, waiting=waiting is not None)
        check_resets(board.journal, properties)
        if waiting is not None:
            end = station.records.ends[waiting.id]
            assert end.state is JobState.PENDING or end.outcome in (Outcome.PASS, Outcome.FAIL)
        if isinstance(shown.result, CommittedJob):
            check_job(shown, shown.result, properties, recipe)
