"""What the command line refuses: one message that names the thing, the right exit code, and nothing started."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from station.demo import write_demo_recipe
from tests.e2e.command import DEMO, one_line, station, write_config


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
    "flash without a recipe": ("flash", "--port", "/dev/null"),
    "flash without such a port": ("flash", "--port", "no/such/port", "--recipe", "r.toml"),
    "flash on a file": ("flash", "--port", __file__, "--recipe", "r.toml"),
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


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    """A page whose port somebody else has: 78, one line that names the address, and no daemon without its page."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_line(station("demo", "--once", "--slots", 1, "--pace", 0, "--port", port).refused(78))
        assert f"127.0.0.1:{port}" in said


@pytest.mark.parametrize("url", ["sqlite:///{0}/none/station.db", "sqlite:///{0}/junk.db", "mysql://x/y", "sqlite://"])
def test_records_that_cannot_be_used_are_refused(tmp_path: Path, url: str) -> None:
    """A database that is not there, damaged or of another kind: the demo says so and ends with 78."""
    (tmp_path / "junk.db").write_text("not a database")
    one_line(station(*DEMO, "--slots", 1, "--db", url.format(tmp_path)).refused(78))
