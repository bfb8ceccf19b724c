"""`station recipe check`, `show` and `firmware` as a person runs them: what they say, refuse and leave alone."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.command import station
from tests.unit.recipe_rig import write_files
from tests.unit.small_image import make_small_image

WORDS = """# what is made for the greenhouse
name = "greenhouse"   # as the page shows it

[files]
tree = "files"
compile = ["lib/*.py"]
fill_in = ["config.json"]

[[check]]
name = "led"
file = "led.py"
"""
FILES = {
    "files/boot.py": "",
    "files/main.py": "import sensor\n",
    "files/lib/sensor.py": "x = 1\n",
    "files/config.json": '{"mac": ${mac|quoted}, "key": ${secret.wifi|quoted}}\n',
    "led.py": "def check():\n    return {}\n",
}


def home(directory: Path) -> Path:
    """A recipe without an image, and two images beside it."""
    images = {f"{variant}.bin": make_small_image(variant=variant) for variant in ("1M", "2M")}  # type: ignore[arg-type]
    write_files(directory, {"greenhouse.toml": WORDS, **FILES, **images})
    return directory / "greenhouse.toml"


def test_a_recipe_gets_its_images_and_is_good(tmp_path: Path) -> None:
    """Images are put in, comments stay, and check and show tell what will be made of a board."""
    path = home(tmp_path)
    assert "no image" in station("recipe", "check", path).refused(78)
    made = station("recipe", "firmware", path, "--image", tmp_path / "1M.bin", "--image", tmp_path / "2M.bin")
    assert (made.code, made.err) == (0, "")
    assert path.read_text().startswith(WORDS)
    checked = station("recipe", "check", path)
    assert (checked.code, checked.err) == (0, "")
    for words in (
        "greenhouse 1 [",
        "1M.bin (",
        "2M.bin (",
        "at least 1024 KB",
        "at least 2048 KB",
        "files      4 (",
        "checks     led",
    ):
        assert words in checked.out
    shown = station("recipe", "show", path).json
    assert shown["hash"][:8] in checked.out
    assert [image["minimum_flash_bytes"] for image in shown["images"]] == [1 << 20, 2 << 20]
    assert [file["path"] for file in shown["files"]["files"]] == ["boot.py", "config.json", "lib/sensor.mpy", "main.py"]
    assert (shown["network"]["access_point"], shown["policy"]["attempts"]) == ("off", 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "1M.bin",
        "2M.bin",
        "files",
        "greenhouse.toml",
        "led.py",
    ]


def test_what_no_board_could_run_is_refused_in_one_line(tmp_path: Path) -> None:
    """A module that one of the images lacks is named with file and line; the exit code is that of a wrong configuration."""
    path = home(tmp_path)
    station("recipe", "firmware", path, "--image", tmp_path / "1M.bin")
    write_files(tmp_path, {"files/main.py": "import sensor\nimport asyncio\n"})
    said = station("recipe", "check", path).refused(78)
    assert f"{tmp_path}/files/main.py: line 2 imports asyncio, which ESP module (1M) with ESP8266 has not" in said
    assert said.count("\n") == 1


def test_firmware_changes_nothing_where_it_cannot(tmp_path: Path) -> None:
    """What is no image, and what is no TOML, leaves the recipe as it was."""
    path = home(tmp_path)
    assert "first byte" in station("recipe", "firmware", path, "--image", path).refused(78)
    path.write_bytes(b"[x\n")
    assert "TOML syntax" in station("recipe", "firmware", path, "--image", tmp_path / "1M.bin").refused(78)
    path.write_bytes(b"\xff")
    assert "not UTF-8" in station("recipe", "firmware", path, "--image", tmp_path / "1M.bin").refused(78)
    assert path.read_bytes() == b"\xff"


def test_what_was_not_checked_is_said(tmp_path: Path) -> None:
    """Of a firmware whose modules nobody knows, the check says that imports were not judged, and how to have it done."""
    path = home(tmp_path)
    write_files(tmp_path, {"old.bin": make_small_image(version="1.20.0"), "files/main.py": "import whatever\n"})
    station("recipe", "firmware", path, "--image", tmp_path / "old.bin")
    checked = station("recipe", "check", path)
    assert checked.code == 0
    assert "imports were not checked; say them in modules" in checked.err


def test_own_checks_are_tried_before_a_board_is(tmp_path: Path) -> None:
    """A check that raises ends the command with 1 and shows its traceback; unless nothing is to be run."""
    path = home(tmp_path)
    write_files(tmp_path, {"led.py": "def check():\n    return {'x': 1 / 0}\n"})
    station("recipe", "firmware", path, "--image", tmp_path / "1M.bin")
    tried = station("recipe", "check", path)
    assert (tried.code, "is good" in tried.out) == (1, True)
    assert "check led: Traceback" in tried.err
    assert "ZeroDivisionError" in tried.err
    assert station("recipe", "check", "--no-run", path).code == 0
