"""Files on a scripted board, through whole visits: by which way they come, what proves them, and what never passes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from station.boarddata import BoardData
from station.jobrun import JobRun
from station.layouts import Layout
from station.link import Evidence
from station.model import BootEvidence, JobState, Measurement, Outcome, Phase, PhaseOutcome
from station.recipe import FilesPlan, Recipe, SourceFile
from station.upload import HELD_SUFFIX
from tests.unit.file_board import FIRST_START, LAYOUT
from tests.unit.job_rig import Shown, Station, recipe_for
from tests.unit.memory_records import STICK
from tests.unit.scripted_board import MIB, OTHER_MAC, ScriptedBoard, at, for_ever

TREE = {"boot.py": b"# ours\n", "lib/a.py": b"A = 1\n" * 400, "data": b""}
PROGRAM = {**TREE, "main.py": b"while 1: pass\n"}


def with_files(files: dict[str, bytes] = TREE, *, fill_in: Iterable[str] = (), more: str = "", **plan) -> Recipe:
    """A recipe whose board carries these files."""
    parents = {path.rpartition("/")[0] for path in files if "/" in path}
    sources = tuple(SourceFile(path=path, content=files[path], fill_in=path in fill_in) for path in sorted(files))
    made = FilesPlan(files=sources, directories=tuple(sorted(parents)), **plan)
    return msgspec.structs.replace(recipe_for(more), files=made)


def measured(shown: Shown) -> dict[str, Measurement]:
    """What was measured in the job, by name."""
    return {each.name: each for each in shown.job.measurements}


def how(shown: Shown) -> tuple[int, bool]:
    """How many files went through the REPL, and whether a filesystem was written in the flash pass."""
    found = measured(shown)
    written = found["files_by_repl"].value
    assert isinstance(written, int)
    return written, "filesystem_md5" in found


def phases(shown: Shown) -> dict[Phase, PhaseOutcome]:
    """How each phase ended."""
    return {each.phase: each.outcome for each in shown.job.phases}


def test_the_first_board_gets_its_files_through_the_repl_and_the_next_one_with_the_image():
    """The first board that passes shows the layout; from then on the files are written as sectors. Both hold the same."""
    station = Station(with_files())
    first, second = station.visit(ScriptedBoard()), station.visit(ScriptedBoard(mac=OTHER_MAC))
    for shown in (first, second):
        assert shown.job.outcome is Outcome.PASS
        assert shown.board.files.files == TREE
        assert phases(shown)[Phase.PROVISION] is PhaseOutcome.PASS
        assert measured(shown)["files_written"].value == 3
    assert how(first) == (3, False)
    assert how(second) == (0, True)
    assert station.records.layouts == {(station.recipe.firmware_sha256, MIB): LAYOUT}
    assert "layout learned" in first.before("visit ended")
    assert measured(first)["files_hash"].value == measured(second)["files_hash"].value


def test_a_recipe_without_files_has_nothing_to_provide_and_asks_for_no_evidence():
    """PROVISION is skipped, and nothing is measured of files."""
    shown = Station(recipe_for()).visit(ScriptedBoard())
    assert shown.job.outcome is Outcome.PASS
    assert phases(shown)[Phase.PROVISION] is PhaseOutcome.SKIPPED
    assert not [name for name in measured(shown) if name.startswith("files_")]


@pytest.mark.parametrize(
    "recipe",
    [
        with_files(by_repl=True),
        with_files({"a": b"1"}),
        with_files(more='[network]\naccess_point = "keep"\n'),
    ],
    ids=["asked for", "says nothing of boot.py", "wants the firmware's own access point"],
)
def test_the_flash_pass_is_left_alone_where_the_firmware_must_make_its_own_filesystem(recipe):
    """What only the firmware's first start makes would be missing: those recipes go through the REPL for ever."""
    station = Station(recipe)
    for mac in (OTHER_MAC, "5c:cf:7f:00:00:08"):
        shown = station.visit(ScriptedBoard(mac=mac))
        assert shown.job.outcome is Outcome.PASS
        assert how(shown)[1] is False


def test_boot_py_of_the_first_start_stays_unless_the_recipe_speaks_of_it():
    """What the recipe does not name is kept; `delete` and `others = "delete"` take it away, by either way."""
    kept = Station(with_files({"a": b"1"})).visit(ScriptedBoard())
    assert kept.board.files.files == {"a": b"1", "boot.py": FIRST_START}
    for recipe in (with_files({"a": b"1"}, delete=("boot.py",)), with_files({"a": b"1"}, delete_others=True)):
        station = Station(recipe)
        for mac in (OTHER_MAC, "5c:cf:7f:00:00:08"):
            shown = station.visit(ScriptedBoard(mac=mac))
            assert shown.job.outcome is Outcome.PASS
            assert shown.board.files.files == {"a": b"1"}
        assert how(shown) == (0, True)


def watched(board: ScriptedBoard) -> list[set[str]]:
    """What files there were at everything that happens from now on."""
    seen: list[set[str]] = []
    board.watch = lambda _event: seen.append(set(board.files.files))
    return seen


def test_a_held_program_gets_its_name_after_the_last_check():
    """While the board is tested and restarted it waits under another name, by either way; in the end it is there and proven."""
    station = Station(with_files({"main.py": b"while 1: pass\n", "boot.py": b""}, hold=("main.py",)))
    for mac in (OTHER_MAC, "5c:cf:7f:00:00:08"):
        board = ScriptedBoard(mac=mac)
        seen = watched(board)
        shown = station.visit(board)
        assert shown.job.outcome is Outcome.PASS
        assert board.files.files == {"main.py": b"while 1: pass\n", "boot.py": b""}
        assert measured(shown)["files_named"].within
        assert any(f"main.py{HELD_SUFFIX}" in files for files in seen)
        last_prompt = max(index for index, event in enumerate(board.journal) if event == "prompt")
        assert not any("main.py" in files for files in seen[: last_prompt + 1])


def test_files_are_proven_after_the_restart_and_not_before():
    """A flash that keeps what it was told only until the restart loses the board its PASS."""
    board = ScriptedBoard()

    def forget() -> None:
        board.files.files["lib/a.py"] = b"what was there before"

    board.on("prompt", at(2, forget))
    shown = Station(with_files()).visit(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "filesystem_lost_data")
    assert shown.job.particulars == "lib/a.py: not what was written"
    assert not measured(shown)["files_hash"].within


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda files: files.files.pop("data"), "data: not what was written"),
        (lambda files: files.files.update({"spy": b""}), "spy: still there"),
        (lambda files: files.directories.add("more"), "more: still there"),
        (
            lambda files: (files.files.pop("lib/a.py"), files.directories.remove("lib")),
            "lib/a.py: not what was written",
        ),
    ],
    ids=["gone", "more", "a directory more", "a directory gone"],
)
def test_whatever_differs_after_the_restart_is_found(change, words):
    """Missing, added or changed: with `others = "delete"` the filesystem is exactly what the recipe says."""
    board = ScriptedBoard()
    board.on("prompt", at(2, lambda: change(board.files)))
    shown = Station(with_files(delete_others=True)).visit(board)
    assert (shown.job.reason, shown.job.particulars) == ("filesystem_lost_data", words)


def test_a_flash_that_does_not_keep_what_it_is_given_is_the_boards_fault():
    """The board received what was sent and reads back something else, twice."""
    board = ScriptedBoard()
    board.files.loses = lambda path: path.startswith("data")
    shown = Station(with_files()).visit(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "filesystem_lost_data")
    assert "data" not in board.files.files


def test_a_line_that_damages_files_is_not_the_boards_fault():
    """What the board received is not what was sent, twice: another slot shall tell."""
    board = ScriptedBoard()
    board.files.damage = lambda data: data[:-1]
    shown = Station(with_files()).visit(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "link_unreliable")


def test_one_damaged_upload_is_done_again():
    """A single accident on the line costs a second try and a note."""
    board, accidents = ScriptedBoard(), iter([b"damaged"])
    board.files.damage = lambda data: next(accidents, data)
    shown = Station(with_files()).visit(board)
    assert shown.job.outcome is Outcome.PASS
    assert "not what was sent" in shown.job.detail
    assert board.files.files == TREE


def test_a_file_for_which_there_is_no_room_crashes_the_writing():
    """What the board raises twice ends the job, with its traceback in the record."""
    board = ScriptedBoard()

    def full(_data: bytes) -> bytes:
        raise OSError(28, "no space")

    board.files.damage = full
    shown = Station(with_files()).visit(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "check_raised")
    assert "no space" in shown.job.detail


def test_another_board_at_the_prompt_gets_nothing_of_this_one():
    """Before the first file is written the board has to say who it is."""
    board = ScriptedBoard(run_mac=OTHER_MAC)
    shown = Station(with_files()).visit(board)
    assert (shown.end.state, shown.end.reason) == (JobState.PENDING, "identity_mismatch")
    assert board.files.files == {"boot.py": FIRST_START}


def test_a_prompt_without_a_filesystem_is_reset_once_and_then_believed():
    """An interrupt that came before the mount is cured by a soft reset; a board that has none even then is told so."""
    board = ScriptedBoard()

    def unmounted() -> None:
        board.files.mounted = False

    shown = Station(with_files()).visit(board.on("prompt", at(1, unmounted)))
    assert shown.job.outcome is Outcome.PASS
    assert "soft reset" in board.journal
    board = ScriptedBoard(mac=OTHER_MAC)
    board.files.broken = True
    shown = Station(with_files()).visit(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "filesystem_corrupt")


def test_the_boards_own_data_is_filled_in_and_its_hash_stays_secret(monkeypatch):
    """Names come from the board's data; what is on record of such a file is salted, so that two boards never look alike."""
    data = BoardData(names={"serial": "SN7", "secret.key": "hunter2"})
    monkeypatch.setattr(JobRun, "board_data", property(lambda _run: data, lambda _run, _value: None), raising=False)
    recipe = with_files({"cfg": b"n=${serial} k=${secret.key|quoted} $$", "boot.py": b"${serial}"}, fill_in=["cfg"])
    station = Station(recipe)
    first, second = station.visit(ScriptedBoard()), station.visit(ScriptedBoard(mac=OTHER_MAC))
    for shown in (first, second):
        assert shown.job.outcome is Outcome.PASS
        assert shown.board.files.files == {"cfg": b'n=SN7 k="hunter2" $', "boot.py": b"${serial}"}
    assert measured(first)["files_hash"].value != measured(second)["files_hash"].value
    assert how(second) == (0, True)


# --- the layout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_repl", [False, True])
def test_a_layout_that_is_not_the_one_learned_is_the_stations_error(by_repl):
    """Whether its files lie where this image had its filesystem before, or came through the REPL: nobody may ship it."""
    station = Station(with_files(by_repl=by_repl))
    station.visit(ScriptedBoard())
    board = ScriptedBoard(mac=OTHER_MAC)
    board.files.says = Layout(first_sector=160, sectors=91)
    shown = station.visit(board)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "layout_mismatch")
    assert shown.job.particulars == "sector 160, 91 sectors instead of sector 153, 98 sectors"
    assert how(shown) == ((3, False) if by_repl else (0, True))
    assert station.records.layouts[station.recipe.firmware_sha256, MIB] == LAYOUT


def test_only_a_board_that_passed_teaches_a_layout():
    """One that fails, whatever it says of its filesystem, is no teacher."""
    station = Station(with_files())
    board = ScriptedBoard()

    def forget() -> None:
        board.files.files.clear()

    board.on("prompt", at(2, forget))
    assert station.visit(board).job.outcome is Outcome.FAIL
    assert station.records.layouts == {}


@pytest.mark.parametrize("layout", [Layout(first_sector=2, sectors=98), Layout(first_sector=200, sectors=98), None])
def test_a_layout_that_cannot_be_is_never_learned(layout):
    """It overlaps the image, leaves the flash, or is no LittleFS: the board may pass, and the next one uses the REPL again."""
    station = Station(with_files())
    for mac in (OTHER_MAC, "5c:cf:7f:00:00:08"):
        board = ScriptedBoard(mac=mac)
        board.files.says = layout
        assert how(station.visit(board)) == (3, False)
    assert station.records.layouts == {}


def test_records_that_cannot_be_asked_for_a_layout_cost_time_and_nothing_else():
    """Neither looking a layout up nor keeping it decides about a board."""
    station = Station(with_files())
    station.records.refuse = {"known_layout", "learn_layout"}
    shown = station.visit(ScriptedBoard())
    assert shown.job.outcome is Outcome.PASS
    assert how(shown) == (3, False)


# --- programs that need not end ------------------------------------------------------------------------------------------


def test_a_program_is_interrupted_soon_once_it_lies_on_the_board():
    """After the flash pass at every start; after an upload from the restart on; without a main.py, or a held one, never."""
    station = Station(with_files(PROGRAM))
    first, second = station.visit(ScriptedBoard()).board, station.visit(ScriptedBoard(mac=OTHER_MAC)).board
    assert (first.interrupted, second.interrupted) == ([False, True], [True, True])
    for recipe in (recipe_for(), with_files(), with_files(PROGRAM, hold=("main.py",))):
        station = Station(recipe)
        for mac in (OTHER_MAC, "5c:cf:7f:00:00:08"):
            assert station.visit(ScriptedBoard(mac=mac)).board.interrupted == [False, False]


@pytest.mark.parametrize(
    ("version", "from_the_start"), [("1.27.0", True), ("1.21.0", True), ("1.20.0", False), ("", False)]
)
def test_in_a_second_visit_only_a_firmware_that_bears_it_is_interrupted_at_once(version, from_the_start):
    """Up to 1.20 Ctrl-C stops the making of the filesystem, and nobody knows yet whether this is the first start."""
    recipe = msgspec.structs.replace(
        with_files(PROGRAM, more='[policy]\ncold_boot = "all"\n'), firmware_version=version
    )
    station = Station(recipe)
    board = ScriptedBoard(lines=False, version=version or "1.27.0")
    station.visit(board, STICK)
    shown = station.visit(board.plug_in("free"), STICK)
    assert shown.job.outcome is Outcome.PASS
    assert board.interrupted == [from_the_start, True]


# --- two visits, and what is cut off in between --------------------------------------------------------------------------


def test_files_come_in_the_visit_in_which_the_board_runs():
    """A board that is flashed in one slot and tested in another gets its files in the second, or has them from the first."""
    station = Station(with_files(more='[policy]\ncold_boot = "all"\n'))
    for mac, expected in ((OTHER_MAC, (3, False)), ("5c:cf:7f:00:00:08", (0, True))):
        board = ScriptedBoard(mac=mac, lines=False)
        assert station.visit(board, STICK).job.state is JobState.PENDING
        shown = station.visit(board.plug_in("free"), STICK)
        assert (shown.job.outcome, shown.job.boot_evidence) == (Outcome.PASS, BootEvidence.COLD)
        assert board.files.files == TREE
        assert how(shown) == expected


def cut_off(recipe: Recipe, cut: int) -> tuple[ScriptedBoard, Shown, Station]:
    """A visit in which the programmer is pulled before the `cut`-th change of the filesystem."""
    station = Station(recipe)
    board = ScriptedBoard(lines=False)
    board.files.cut_before = cut
    return board, station.visit(board, STICK), station


def test_a_board_whose_upload_is_cut_off_at_any_moment_never_passes():
    """Before any change of the flash: no PASS, no half file under a name of the recipe, and a new visit makes it whole."""
    recipe, cuts = with_files(hold=("boot.py",), delete_others=True), 0
    for cut in range(200):
        board, shown, station = cut_off(recipe, cut)
        if shown.end.outcome is Outcome.PASS:
            break
        cuts += 1
        assert shown.end.outcome is Outcome.ABORTED
        for path, content in TREE.items():
            assert board.files.files.get(path, content) in (content, FIRST_START)
        board.files.cut_before = None
        again = station.visit(board.plug_in("low"), STICK)
        assert again.job.outcome is Outcome.PASS
        assert board.files.files == TREE
    assert cuts > 10


def test_what_was_cut_off_in_the_second_visit_is_done_in_the_third():
    """A pending job waits on; its next visit finds halves, and makes them whole."""
    recipe, cuts = with_files(more='[policy]\ncold_boot = "all"\n'), 0
    for cut in range(200):
        station = Station(recipe)
        board = ScriptedBoard(lines=False)
        station.visit(board, STICK)
        board.files.cut_before = cut
        shown = station.visit(board.plug_in("free"), STICK)
        if shown.end.outcome is Outcome.PASS:
            break
        cuts += 1
        assert shown.finding.reason == "test_interrupted"
        board.files.cut_before = None
        again = station.visit(board.plug_in("free"), STICK)
        assert again.job.outcome is Outcome.PASS
        assert board.files.files == TREE
    assert cuts > 5


@pytest.mark.parametrize("name", ["files_written", "files_hash", "filesystem_layout"])
def test_without_any_one_piece_of_evidence_there_is_no_pass(monkeypatch, name):
    """What nobody measured is not assumed."""
    measure = Evidence.measure
    monkeypatch.setattr(Evidence, "measure", lambda self, one: None if one.name == name else measure(self, one))
    shown = Station(with_files()).visit(ScriptedBoard())
    assert (shown.job.outcome, shown.job.reason) == (Outcome.ERROR, "evidence_missing")
    assert name in shown.job.detail


def test_a_board_that_restarts_while_it_gets_files_is_said_to_restart():
    """After a start by software the loader answers then: the supply is weak, not the file wrong."""
    board = ScriptedBoard(lines=False)

    def restart() -> None:
        if "boot.py.tmp~" in board.files.files:
            board.runs = "rom"

    shown = Station(with_files()).visit(board.on("run", for_ever(restart)), STICK)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "brownout")
