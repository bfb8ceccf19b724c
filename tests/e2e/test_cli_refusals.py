"""What the command line refuses: one message that names the thing, the right exit code, and nothing started."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from station.byhand import exit_code
from station.demo import write_demo_recipe
from station.reasons import Reason
from station.visit import Finding
from tests.e2e.command import DEMO, PATIENCE_S, STATION, one_line, started, station, wait_for, write_config


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good recipe with its image beside it."""
    return write_demo_recipe(tmp_path_factory.mktemp("recipe"))[0]


USAGE = {
    "no such option": ("demo", "--bogus"),
    "unknown fault": (*DEMO, "--fault", "A1:bad_luck"),
    "fault without a slot": (*DEMO, "--fault", "no_boot"),
    "fault without its argument": (*DEMO, "--fault", "A1:hang"),
    "fault on a slot that is not there": (*DEMO, "--slots", 2, "--fault", "A3:no_boot"),
    "fault on a slot without a board": (*DEMO, "--slots", 2, "--boards", 1, "--fault", "A2:no_boot"),
    "fault compared with a slot that is not there": (*DEMO, "--slots", 2, "--fault", "A1:twin_chip_id@B1"),
    "fault compared with itself": (*DEMO, "--slots", 2, "--fault", "A1:duplicate_mac@A1"),
    "pace that is no number": (*DEMO, "--pace", "nan"),
    "port beyond 65535": ("demo", "--port", 65536),
    "bench without a directory": ("bench", "--slots", 1),
    "bench with a fault on no slot": ("bench", "--slots", 1, "--dir", "never", "--fault", "B1:no_boot"),
    "bench with a fault that a pty has not": ("bench", "--slots", 1, "--dir", "never", "--fault", "A1:usb_limited"),
    "bench with a tower light that is a pty": ("bench", "--slots", 1, "--dir", "never", "--tower-light"),
    "bench with ptys in the hand": ("bench", "--slots", 1, "--dir", "never", "--unplugged"),
    "demo with a fault of USB devices": (*DEMO, "--fault", "A1:usb_out_stuck"),
    "flash without a recipe": ("flash", "--port", "/dev/null"),
    "flash without such a port": ("flash", "--port", "no/such/port", "--recipe", "r.toml"),
    "flash on a file": ("flash", "--port", __file__, "--recipe", "r.toml"),
    "flash with a reset that is none": ("flash", "--port", "/dev/null", "--recipe", "r.toml", "--reset", "rts"),
    "flash as before": ("flash", "--port", "/dev/null", "--recipe", "r.toml", "--wiring", "manual"),
    "flash with GPIO0 by lines that are not there": (
        *("flash", "--port", "/dev/null", "--recipe", "r.toml"),
        *("--reset", "none", "--gpio0", "lines"),
    ),
    "flash where nothing can be flashed": (
        *("flash", "--port", "/dev/null", "--recipe", "r.toml"),
        *("--gpio0", "never_low"),
    ),
    "forget no slot": ("slots", "forget"),
    "flash until no phase": ("flash", "--port", "/dev/null", "--recipe", "r.toml", "--until", "lunch"),
    "run without a configuration": ("run",),
    "lot without a name": ("lot", "open", "--config", "station.toml"),
    "no command": (),
    "no such command": ("frobnicate",),
}


@pytest.mark.parametrize("arguments", USAGE.values(), ids=USAGE)
def test_wrong_usage_exits_64_and_says_why(arguments: tuple[object, ...], tmp_path: Path) -> None:
    """A command used wrongly ends with 64 at once, says what is wrong on standard error, and leaves nothing behind."""
    assert station(*arguments, cwd=tmp_path).refused(64)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to_journal", [True, False])
def test_a_refusal_is_an_error_in_the_journal_and_plain_elsewhere(tmp_path: Path, *, to_journal: bool) -> None:
    """Where standard error is journald's stream the line carries its priority; a terminal gets the words alone."""
    said = tmp_path / "stderr"
    with said.open("wb") as stderr:
        stream = os.fstat(stderr.fileno())
        env = {**os.environ, "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino + (not to_journal)}"}
        command = [STATION, "config", "check", str(tmp_path / "none.toml")]
        done = subprocess.run(command, env=env, stderr=stderr, timeout=PATIENCE_S, check=False)
    assert done.returncode == 78
    assert said.read_bytes().startswith(b"<3>") is to_journal
    assert b"none.toml" in said.read_bytes()


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    """`run` with a configuration that is not there: 78, naming the file."""
    said = one_line(station("run", "--config", tmp_path / "none.toml").refused(78))
    assert "none.toml" in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[usb]\nreconcile = 3", "reconcile"),
        ("[flashing]\nbaud_ladder = [9600, 115200]", "flashing.baud_ladder"),
        ("[http\nlisten = 1", "line"),
        ('[slots]\nA1 = "pci:1"\nA2 = "pci:1"', "slots.A2"),
        ("[shutdown]\nfinish_s = -1", "shutdown.finish_s"),
        ('[flashing]\nwiring = "manual"', 'slot_defaults.reset = "none"'),
        ('[slots]\nB3 = { place = "pci:1", gpio0 = "always_low", role = "test" }', "slots.B3"),
        ('[slot_defaults]\nreset = "none"\n[slots]\nB3 = { place = "pci:1", gpio0 = "lines" }', "slots.B3"),
    ],
)
def test_a_wrong_configuration_is_refused(tmp_path: Path, text: str, names: str) -> None:
    """One line names file and key or line, what is wrong and the fix; nothing is started."""
    config = write_config(tmp_path, text)
    said = one_line(station("run", "--config", config).refused(78))
    assert str(config) in said
    assert names in said
    assert not (tmp_path / "state").exists()


def test_a_listen_address_beyond_loopback_is_refused(tmp_path: Path) -> None:
    """The page has no log-in: an address other people can reach is a configuration error."""
    config = tmp_path / "station.toml"
    config.write_text('[http]\nlisten = "0.0.0.0:8080"\n')
    assert "http.listen" in one_line(station("run", "--config", config).refused(78))


def damaged(recipe: Path, directory: Path, how: str) -> Path:
    """A copy of the recipe whose image is damaged, or whose sha256 is another."""
    image = next(recipe.parent.glob("*.bin"))
    content = image.read_bytes()
    text = recipe.read_text()
    match how:
        case "truncated":
            content = content[:-4096]
        case "flipped":
            content = content[:70000] + bytes([content[70000] ^ 1]) + content[70001:]
        case "sha256":
            text = re.sub(r'sha256 = ".{64}"', f'sha256 = "{"0" * 64}"', text)
        case "missing":
            text = text.replace(image.name, "elsewhere.bin")
        case "unknown key":
            text += "\n[flash]\nspeed = 3\n"
        case "short sha256":
            text = re.sub(r'sha256 = ".{64}"', 'sha256 = "abc"', text)
    (directory / image.name).write_bytes(content)
    (directory / "bad.toml").write_text(text)
    return directory / "bad.toml"


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("truncated", "firmware.sha256"),
        ("flipped", "firmware.sha256"),
        ("sha256", "firmware.sha256"),
        ("missing", "elsewhere.bin"),
        ("unknown key", "speed"),
        ("short sha256", "firmware.sha256"),
    ],
)
def test_a_bad_recipe_or_image_is_refused(recipe: Path, tmp_path: Path, how: str, names: str) -> None:
    """`recipe check` refuses a damaged image or a wrong recipe with 78 and one line that names the file and the key."""
    said = one_line(station("recipe", "check", damaged(recipe, tmp_path, how)).refused(78))
    assert "bad.toml" in said
    assert names in said


def test_nothing_starts_with_a_damaged_image(recipe: Path, tmp_path: Path) -> None:
    """`run`, `config check` and `flash` refuse an image with one flipped bit in the very words of `recipe check`."""
    bad = damaged(recipe, tmp_path, "flipped")
    config = write_config(tmp_path, recipe=bad)
    refusals = {
        station("recipe", "check", bad).refused(78),
        station("config", "check", config).refused(78),
        station("run", "--config", config).refused(78),
        station("flash", "--port", "/dev/null", "--recipe", bad, "--no-record").refused(78),
    }
    assert len(refusals) == 1
    assert not (tmp_path / "state").exists()


def test_a_truncated_image_with_a_fresh_sha256_is_refused_by_its_trailer(recipe: Path, tmp_path: Path) -> None:
    """An image that was cut before its sum was taken still does not get past MicroPython's own trailer."""
    image = tmp_path / "cut.bin"
    image.write_bytes(next(recipe.parent.glob("*.bin")).read_bytes()[:-4096])
    made = station("recipe", "new", "--image", image, tmp_path / "cut.toml")
    assert made.code == 0
    assert 'trailer = "none"' in made.out
    assert "does not prove by itself that it is whole" in made.err
    text = "\n".join(line for line in made.out.splitlines() if not line.startswith("trailer"))
    (tmp_path / "strict.toml").write_text(text)
    assert "not a complete MicroPython image" in one_line(
        station("recipe", "check", tmp_path / "strict.toml").refused(78)
    )


def test_a_corrupt_slot_map_is_refused(tmp_path: Path) -> None:
    """A slot map that is no JSON stops the daemon with 78, names the file, and is left as it is."""
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "slots.json").write_text('{"A1": ')
    for command in (("run", "--config", config), ("slots", "list", "--config", config)):
        assert "slots.json" in one_line(station(*command).refused(78))
    assert (tmp_path / "state" / "slots.json").read_text() == '{"A1": '


def test_a_mistake_in_the_slot_map_is_refused(tmp_path: Path) -> None:
    """An unknown word in a map that was edited by hand: 78, one line with file, key and fix; nothing is overwritten."""
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "slots.json").write_text('{"A1": {"place": "pci:1", "reset": "rts"}}')
    for command in ("config", "check"), ("slots", "list"), ("slots", "forget", "A1"), ("slots", "teach"):
        said = one_line(station(*command, "--config", config).refused(78))
        assert "slots.json: A1.reset: " in said
        assert "lines, none" in said
    assert "rts" in (tmp_path / "state" / "slots.json").read_text()


def test_a_slot_without_a_place_is_refused_until_it_is_taught(tmp_path: Path) -> None:
    """A table without a place whose label was never taught: 78 with both ways out; teaching asks for that very slot."""
    config = write_config(tmp_path, '[slots]\nleft = { role = "test" }')
    for command in ("run", "--config"), ("slots", "list", "--config"), ("config", "check"):
        said = one_line(station(*command, config).refused(78))
        assert "slots.json: left: no place was taught" in said
        assert "station slots teach" in said
    with started(tmp_path, "slots", "teach", "--config", config) as teaching:
        wait_for(lambda: "plug a programmer into left now" in teaching.out, "the slot to teach first", teaching)
        assert teaching.end(signal.SIGINT).code in (0, 130)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "slots.json").write_text('{"left": "pci:1"}')
    assert "1 slots" in station("config", "check", config).out


def test_what_was_learned_is_forgotten_on_demand(tmp_path: Path) -> None:
    """`slots forget` takes what was learned of one slot and leaves its place; a label nobody has is wrong usage."""
    config = write_config(tmp_path, '[slots]\nleft = "pci:2"')
    (tmp_path / "state").mkdir()
    learned = {"place": "pci:1", "adapter": "1a86:7523 0264", "reset": "none", "reset_evidence": "silence"}
    (tmp_path / "state" / "slots.json").write_text(json.dumps({"A1": learned, "A2": {**learned, "place": "pci:3"}}))
    done = station("slots", "forget", "A1", "--config", config)
    assert (done.code, done.out.split(":")[0]) == (0, "A1")
    assert "found out again" in done.out
    assert json.loads((tmp_path / "state" / "slots.json").read_text())["A1"] == {"place": "pci:1"}
    assert json.loads((tmp_path / "state" / "slots.json").read_text())["A2"]["reset"] == "none"
    for label in ("A1", "left"):
        assert "nothing was learned" in station("slots", "forget", label, "--config", config).out
    assert "no slot Z9" in station("slots", "forget", "Z9", "--config", config).refused(64)


def test_the_list_of_slots_shows_what_each_is_and_how_that_is_known(tmp_path: Path) -> None:
    """Four properties in words, each configured, default, learned or not known yet, with the evidence of the learned ones."""
    config = write_config(tmp_path, '[slot_defaults]\ngpio0 = "hand"\n[slots]\nA2 = { place = "pci:2", role = "test" }')
    (tmp_path / "state").mkdir()
    learned = {"place": "pci:1", "adapter": "1a86:7523 0264", "reset": "none", "reset_evidence": "a pulse\x1b[31m"}
    (tmp_path / "state" / "slots.json").write_text(json.dumps({"A1": learned}))
    lines = station("slots", "list", "--config", config).out.splitlines()
    assert [line.split() for line in lines[::4]] == [["A1", "pci:1", "empty"], ["A2", "pci:2", "empty"]]
    assert [line.strip() for line in (*lines[1:4], lines[5])] == [
        "reset none (learned), gpio0 hand (default), programmer moves (default), make (default)",
        r"reset: a pulse\x1b[31m",
        "row A, column 1; no records",
        "reset ? (not known yet), gpio0 hand (default), programmer moves (default), test (configured)",
    ]
    first, second = station("slots", "list", "--json", "--config", config).json
    assert first == {
        "slot": "A1",
        "position": "row A, column 1",
        "place": "pci:1",
        "hub_path": "",
        "node": "",
        "product": "",
        "properties": {"reset": "none", "gpio0": "hand", "moves": "programmer", "role": "make"},
        "evidence": {"reset": "a pulse\x1b[31m", "gpio0": "default", "moves": "default", "role": "default"},
        "health": None,
    }
    assert second["properties"] == {"reset": None, "gpio0": "hand", "moves": "programmer", "role": "test"}
    assert second["evidence"] == {"gpio0": "default", "moves": "default", "role": "configured"}


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ('A1 = { place = "a", role = "flash" }', True),
        ('A1 = { place = "a", gpio0 = "always_low" }', True),
        ('A1 = { place = "a", gpio0 = "always_low" }\nA2 = { place = "b", role = "flash" }', True),
        ('A1 = { place = "a", role = "flash" }\nA2 = { place = "b", role = "inspect" }', True),
        ('A1 = { place = "a", role = "flash" }\nA2 = { place = "b", role = "test" }', False),
        ('A1 = { place = "a", gpio0 = "always_low" }\nA2 = "b"', False),
        ('A1 = { place = "a", role = "inspect" }', False),
        ('A1 = "a"', False),
        ("", False),
    ],
)
def test_a_bench_where_boards_stay_untested_is_warned_of(tmp_path: Path, text: str, *, warned: bool) -> None:
    """`config check`: good, but when boards are flashed and no slot can test what comes from another, it says so."""
    done = station("config", "check", write_config(tmp_path, f"[slots]\n{text}"))
    assert done.code == 0
    assert " is good: " in done.out
    assert done.err.startswith("warning: every slot that flashes has ") is warned
    assert ('Give a slot role = "test"' in done.err) is warned


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """A page whose port somebody else has: 78, one line that names the address, and no daemon without its page."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_line(station("demo", "--once", "--slots", 1, "--pace", 0, "--port", port).refused(78))
        assert f"127.0.0.1:{port}" in said


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.ALREADY_DONE, 0),
        (Reason.ATTEMPTS_USED_UP, 1),
        (Reason.MARKED_BOARD, 2),
        (Reason.PASSED_BEFORE, 2),
        (Reason.PENDING_ELSEWHERE, 2),
        (Reason.NOT_FLASHED_HERE, 2),
        (Reason.ADAPTER_ECHO, 2),
        (Reason.LINK_LOST, 2),
        (Reason.NO_ANSWER, 3),
        (Reason.NOT_IN_DOWNLOAD_MODE, 3),
        (Reason.IN_DOWNLOAD_MODE, 3),
        (Reason.NO_PENDING_JOB, 3),
        (Reason.AWAITS_RUN_MODE, 3),
        (Reason.AWAITS_TEST_SLOT, 3),
        (Reason.TEST_INTERRUPTED, 3),
    ],
)
def test_a_flash_by_hand_that_was_no_job_exits_by_its_tray(reason: Reason, code: int) -> None:
    """What is done already is 0, what goes into BAD is 1, what takes a technician is 2, what takes a hand is 3."""
    assert exit_code(Finding(visit_id="v", reason=reason, detail=""), until=None) == code


@pytest.mark.parametrize("url", ["sqlite:///{0}/none/station.db", "sqlite:///{0}/junk.db", "mysql://x/y", "sqlite://"])
def test_records_that_cannot_be_used_are_refused(tmp_path: Path, url: str) -> None:
    """A database that is not there, damaged or of another kind: the demo says so and ends with 78."""
    (tmp_path / "junk.db").write_text("not a database")
    one_line(station(*DEMO, "--slots", 1, "--db", url.format(tmp_path)).refused(78))
