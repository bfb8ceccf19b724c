"""The example recipes, each made by `make demo RECIPE=…` to the end, and judged by the records and the bytes in flash."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from littlefs import LittleFS, UserContext

from station.bench.chip import WINBOND_1M, WINBOND_2M, make_chip
from station.bench.image import make_image
from station.tryout import furnish, prepare, problems_with_files
from tests.e2e.command import PATIENCE_S, Done, one_line, station
from tests.unit.recipe_rig import write_files

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "deploy" / "recipes"
BLINK, WIFI_SENSOR, BARE_REPL = (EXAMPLES / name for name in ("blink", "wifi-sensor", "bare-repl"))
SLOTS, BOARDS = 3, 6
KIB = 1024
SMALL, USUAL, LARGE = 512 * KIB, 1024 * KIB, 2048 * KIB
FILESYSTEMS = {
    ("ESP module (1M) with ESP8266", USUAL): (153, 98),
    ("ESP module (1M) with ESP8266", LARGE): (153, 354),
    ("ESP module with ESP8266", LARGE): (257, 250),
}
"""Build and flash -> first sector and sectors of its filesystem (flashbdev.py)."""
WEBREPL_LINES = b"import webrepl\nwebrepl.start()\n"
OWN = """
[firmware]
path = "not-there.bin"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[files]
tree = "tree"
fill_in = ["*.txt", "lib/*.json"]
rename = { "label.txt" = "a/label.txt" }
delete = ["old.py"]
[serial]
pool = "own"
format = "{number:04X}"
[values]
csv = "boards.csv"
by = "mac"
secret = ["token"]
[network]
ssid = "bench"
key_secret = "wifi"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What `make demo` left behind."""

    done: Done
    jobs: list[dict[str, Any]]
    flashes: dict[str, bytes]
    """MAC -> everything in its flash."""
    records: Path

    def measured(self, mac: str) -> dict[str, Any]:
        """Name -> value of everything that was measured of a board, all within its limits."""
        job = next(job for job in self.jobs if job["mac"] == mac)
        assert all(measurement["within"] for measurement in job["measurements"])
        return {measurement["name"]: measurement["value"] for measurement in job["measurements"]}


def make(*arguments: str) -> Done:
    """Run `make` in the checkout, with the station that is tested."""
    surrounding = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = ["make", "--no-print-directory", "--old-file", "setup", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env=surrounding,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE_S,
    )
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


def made(directory: Path, recipe: Path) -> Made:
    """Make six boards of a recipe by `make demo`, in three slots: the later ones get their files in the flash pass."""
    records, dump = directory / "demo.db", directory / "flashes"
    options = f"--json --pace 0 --port 0 --slots {SLOTS} --boards {BOARDS} --db sqlite:///{records} --dump {dump}"
    done = make("demo", f"RECIPE={recipe.relative_to(ROOT)}", f"DEMO={options}")
    assert done.code == 0, done.err
    assert done.json["expected"] is True
    jobs = done.json["jobs"]
    assert [job["outcome"] for job in jobs] == ["PASS"] * BOARDS
    flashes = {job["mac"]: (dump / f"{job['mac'].replace(':', '')}.bin").read_bytes() for job in jobs}
    return Made(done=done, jobs=jobs, flashes=flashes, records=records)


@pytest.fixture(scope="module")
def wifi_sensor(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Six Wi-Fi sensors."""
    return made(tmp_path_factory.mktemp("wifi"), WIFI_SENSOR)


def build_in(flash: bytes) -> str:
    """The machine that the firmware in a flash calls itself."""
    found = re.search(rb"ESP module(?: \([0-9]+[KM]\))? with ESP8266", flash)
    assert found is not None
    return found[0].decode()


def files_in(flash: bytes) -> dict[str, bytes]:
    """Every file that LittleFS itself reads in a flash."""
    start, sectors = FILESYSTEMS[build_in(flash), len(flash)]
    region = bytearray(flash[start * 4096 : (start + sectors) * 4096])
    files = LittleFS(context=UserContext(buffer=region), block_size=4096, block_count=sectors)
    found = {}
    for root, _, names in files.walk("/"):
        for name in names:
            path = f"{root.rstrip('/')}/{name}"
            with files.open(path, "rb") as file:
                found[path.lstrip("/")] = file.read()
    return found


def radio_of(flash: bytes) -> dict[str, Any]:
    """What the SDK of a virtual board keeps of its radio, in the third sector from the end."""
    sector = flash[-0x3000:-0x2000]
    assert sector.startswith(b"SDK\0")
    kept: dict[str, Any] = json.loads(sector[6 : 6 + int.from_bytes(sector[4:6], "little")])
    return kept


def in_tree(recipe: Path) -> dict[str, bytes]:
    """Every file in the tree of an example."""
    files = recipe / "files"
    return {str(path.relative_to(files)): path.read_bytes() for path in files.rglob("*") if path.is_file()}


def copied(recipe: Path, directory: Path) -> Path:
    """Copy an example, as a person does who begins with it."""
    return Path(shutil.copytree(recipe, directory / recipe.name))


def test_blink_leaves_its_two_files_on_every_board(tmp_path: Path) -> None:
    """boot.py and main.py, byte for byte and nothing else, on 1 MB and 2 MB; by REPL first, in the flash pass later."""
    result = made(tmp_path, BLINK)
    assert sorted(len(flash) for flash in result.flashes.values()) == [USUAL] * 3 + [LARGE] * 3
    for mac, flash in result.flashes.items():
        assert build_in(flash) == "ESP module (1M) with ESP8266"
        assert files_in(flash) == in_tree(BLINK)
        assert set(in_tree(BLINK)) == {"boot.py", "main.py"}
        measured = result.measured(mac)
        assert (measured["led.low"], measured["led.high"]) == (0, 1)
        assert radio_of(flash)["ap_active"] is False
    ways = {result.measured(mac)["files_by_repl"] for mac in result.flashes}
    assert ways == {0, 2}


def test_blink_for_512_kb_is_made_on_boards_of_every_size(tmp_path: Path) -> None:
    """The build without a filesystem goes to 512 KB, 1 MB and 2 MB alike, and no file is looked for."""
    result = made(tmp_path, BLINK / "recipe-512k.toml")
    assert sorted(len(flash) for flash in result.flashes.values()) == [SMALL] * 2 + [USUAL] * 2 + [LARGE] * 2
    for mac, flash in result.flashes.items():
        assert build_in(flash) == "ESP module (512K) with ESP8266"
        assert result.measured(mac)["led.done"] is True
        assert "filesystem_hash" not in result.measured(mac)


def test_bare_repl_gives_each_board_the_image_for_its_flash(tmp_path: Path) -> None:
    """Boards of 512 KB, 1 MB and 2 MB, mixed, get the largest image that fits, every check, and no file."""
    result = made(tmp_path, BARE_REPL)
    builds = {SMALL: "ESP module (512K) with ESP8266", USUAL: "ESP module (1M) with ESP8266"}
    builds[LARGE] = "ESP module with ESP8266"
    assert {len(flash): build_in(flash) for flash in result.flashes.values()} == builds
    for mac, flash in result.flashes.items():
        measured = result.measured(mac)
        assert measured["machine"] == builds[len(flash)]
        assert measured["frequency_160_mhz"] == 160_000_000
        assert measured["memory.largest_piece"] >= 8 * KIB
        assert measured["access_point_off"] is True
        if len(flash) > SMALL:
            # The firmware's own, made at its first start.
            assert set(files_in(flash)) == {"boot.py"}


def test_each_wifi_sensor_has_its_own_data_in_its_files(wifi_sensor: Made) -> None:
    """Programs byte for byte, config.json with what belongs to this board alone, and WebREPL with its password."""
    tree = in_tree(WIFI_SENSOR)
    assert set(tree) == {"boot.py", "main.py", "config.json", "lib/mqtt.py", "lib/settings.py", "lib/thermometer.py"}
    serials = set()
    for job in wifi_sensor.jobs:
        files = files_in(wifi_sensor.flashes[job["mac"]])
        assert set(files) == {*tree, "webrepl_cfg.py"}
        for path in ("main.py", "lib/mqtt.py", "lib/settings.py", "lib/thermometer.py"):
            assert files[path] == tree[path]
        assert files["boot.py"] == tree["boot.py"] + WEBREPL_LINES
        config = json.loads(files["config.json"])
        row = int(config["name"].removeprefix("name "))
        assert config == {
            "serial": f"WS-{int(config['serial'][3:]):06d}",
            "chip_id": job["chip_id"],
            "client": f"sensor-{job['mac'].replace(':', '')}",
            "name": f"name {row:04d}",
            "room": f"room {row:04d}",
            "broker": {
                "host": "192.168.4.2",
                "port": 1883,
                "user": "sensors",
                "password": config["broker"]["password"],
            },
            "topic": f"sensors/{config['serial']}/temperature",
            "every_s": 60,
        }
        assert job["values"] == {"serial": config["serial"], "name": config["name"], "room": config["room"]}
        serials.add((config["serial"], config["name"]))
    assert len(serials) == BOARDS
    numbers = sorted(serial for serial, _ in serials)
    assert numbers == [f"WS-{number:06d}" for number in range(1, BOARDS + 1)]


def test_each_wifi_sensor_knows_its_network_and_opens_none(wifi_sensor: Made) -> None:
    """The radio's own settings in flash: credentials of the one network, the access point off; it was heard and joined."""
    for mac, flash in wifi_sensor.flashes.items():
        radio = radio_of(flash)
        assert (radio["ap_active"], radio["sta_active"], radio["sta_ssid"]) == (False, True, "sensors")
        measured = wifi_sensor.measured(mac)
        assert -75 <= measured["wifi_rssi"] <= -10
        assert measured["network_ssid"] == "sensors"
        assert measured["network_join"] is not None
        assert measured["webrepl"] is True
        assert measured["settings.complete"] is True
        assert measured["filesystem_fill_hash"] == measured["filesystem_fill_written"]


def test_the_secrets_of_the_wifi_sensor_are_on_the_boards_only(wifi_sensor: Made) -> None:
    """Three passwords, all different, in the flash; none of them in what the command printed, nor in the records."""
    flash = next(iter(wifi_sensor.flashes.values()))
    files = files_in(flash)
    found = re.fullmatch(rb'PASS = "(demo-[0-9a-f]{4})"\n', files["webrepl_cfg.py"])
    assert found is not None
    secrets = {found[1].decode(), json.loads(files["config.json"])["broker"]["password"], radio_of(flash)["sta_key"]}
    assert len(secrets) == 3
    kept = b"".join(path.read_bytes() for path in wifi_sensor.records.parent.iterdir() if path.is_file())
    with sqlite3.connect(wifi_sensor.records) as records:
        kept += "\n".join(records.iterdump()).encode()
    records.close()
    for secret in secrets:
        assert secret.startswith("demo-")
        assert secret not in wifi_sensor.done.out + wifi_sensor.done.err
        assert secret.encode() not in kept


def test_the_demo_sees_a_file_that_is_not_what_it_must_be(tmp_path: Path, wifi_sensor: Made) -> None:
    """One changed letter in one file of one board, or somebody else's number, is not as expected."""
    tryout = prepare(WIFI_SENSOR, tmp_path)
    chips = []
    for mac, flash in wifi_sensor.flashes.items():
        flash_id = WINBOND_1M if len(flash) == USUAL else WINBOND_2M
        chips.append(make_chip(mac=bytes.fromhex(mac.replace(":", "")), jedec_id=flash_id, image=flash))
    around = furnish(tryout, chips, f"sqlite:///{tmp_path / 'other.db'}")
    assert problems_with_files(tryout, around, chips, wifi_sensor.jobs) == []
    changed, exchanged, emptied = chips[:3]
    changed.flash.data[:] = changed.flash.data.replace(b"sensor-", b"sensos-")
    jobs = [dict(job) for job in wifi_sensor.jobs]
    mac_of = {job["mac"].replace(":", ""): job for job in jobs}
    job = mac_of[exchanged.mac.hex()]
    job["values"] = {**job["values"], "serial": "WS-000999"}
    build = "1M" if emptied.flash.size_bytes == USUAL else "2M"
    emptied.flash.data[:] = make_image(variant=build).ljust(emptied.flash.size_bytes, b"\xff")  # type: ignore[arg-type]
    said = problems_with_files(tryout, around, chips, jobs)
    assert len(said) == 3
    assert sum("config.json not as the recipe says" in problem for problem in said) == 2
    assert sum("filesystem cannot be read" in problem for problem in said) == 1
    told = " ".join(said).replace(":", "")
    assert all(chip.mac.hex() in told for chip in (changed, exchanged, emptied))


@pytest.mark.parametrize(
    ("example", "tables"), [("blink/recipe.toml", 1), ("blink/recipe-512k.toml", 1), ("wifi-sensor/recipe.toml", 2)]
)
def test_an_example_says_how_to_fill_its_image_in(tmp_path: Path, example: str, tables: int) -> None:
    """As shipped it is refused with the command that helps; with images it is good, its comments are there, its checks run."""
    recipe = copied(EXAMPLES / example.partition("/")[0], tmp_path) / example.partition("/")[2]
    before = recipe.read_text()
    said = one_line(station("recipe", "check", recipe).refused(78))
    assert "no image was filled in yet" in said
    assert f"station recipe firmware {recipe} --image" in said
    variants = ["512K"] if "512k" in example else ["1M", "2M"][:tables]
    images = []
    for variant in variants:
        images.append(recipe.parent / f"{variant}.bin")
        images[-1].write_bytes(make_image(variant=variant))  # type: ignore[arg-type]
    filled = station("recipe", "firmware", recipe, *(part for image in images for part in ("--image", image)))
    assert filled.code == 0, filled.err
    comments = [line for line in before.splitlines() if line.startswith("#")]
    after = recipe.read_text().splitlines()
    assert [line for line in after if line.startswith("#")] == comments
    assert len([line for line in after if line == "[[image]]"]) == tables
    checked = station("recipe", "check", recipe)
    assert checked.code == 0, checked.err
    assert "is good" in checked.out


def test_an_example_with_some_of_its_images_asks_for_the_rest(tmp_path: Path) -> None:
    """Of three tables one is filled in: the command says which are not, and what to do about boards that nobody makes."""
    recipe = copied(BARE_REPL, tmp_path) / "recipe.toml"
    image = recipe.parent / "1M.bin"
    image.write_bytes(make_image(variant="1M"))
    said = one_line(station("recipe", "firmware", recipe, "--image", image).refused(78))
    assert "image[0].sha256: no image was filled in yet" in said
    assert "take this table out" in said
    assert 'path = "1M.bin"' in recipe.read_text()


def test_a_demo_of_a_recipe_changes_nothing_where_it_lies(tmp_path: Path) -> None:
    """A recipe of one's own with a real image beside it, in other places than the examples: it is made, and stays as it was."""
    recipe = copied(BLINK, tmp_path) / "recipe.toml"
    image = recipe.parent / "real.bin"
    image.write_bytes(make_image(variant="2M", seed=5))
    text = recipe.read_text().replace("minimum_flash_bytes", "# minimum_flash_bytes")
    recipe.write_text(text.replace('path = ""', 'path = "real.bin"'))
    before = {path: path.read_bytes() for path in recipe.parent.rglob("*") if path.is_file()}
    options = ("--once", "--json", "--pace", 0, "--port", 0, "--slots", 1)
    done = station("demo", *options, "--recipe", recipe, "--dump", tmp_path / "flashes")
    assert done.code == 0, done.err
    [flash] = [path.read_bytes() for path in (tmp_path / "flashes").iterdir()]
    assert (len(flash), build_in(flash)) == (LARGE, "ESP module with ESP8266")
    assert files_in(flash) == in_tree(recipe.parent)
    assert {path: path.read_bytes() for path in recipe.parent.rglob("*") if path.is_file()} == before


def test_a_recipe_with_a_table_by_mac_gets_one(tmp_path: Path) -> None:
    """Whatever a recipe names is made up: a row for each MAC, a secret column, numbers, the key of a network."""
    write_files(
        tmp_path / "own",
        {
            "own.toml": OWN,
            "tree/boot.py": "import gc\n",
            "tree/label.txt": "${values.mac} ${values.colour} ${serial} $$1",
            "tree/lib/data.json": '[${values.token|quoted}, "${secret.other}"]',
        },
    )
    options = ("--once", "--json", "--pace", 0, "--port", 0, "--slots", 1, "--boards", 2)
    done = station("demo", *options, "--recipe", tmp_path / "own" / "own.toml", "--dump", tmp_path / "flashes")
    assert done.code == 0, done.err
    for number, job in enumerate(done.json["jobs"], start=1):
        flash = (tmp_path / "flashes" / f"{job['mac'].replace(':', '')}.bin").read_bytes()
        files = files_in(flash)
        assert set(files) == {"boot.py", "a/label.txt", "lib/data.json"}
        assert files["boot.py"] == b"import gc\n"
        assert files["a/label.txt"] == f"{job['mac']} colour {number:04d} {number:04X} $1".encode()
        token, other = json.loads(files["lib/data.json"])
        assert token == f"token {number:04d}"
        assert radio_of(flash)["sta_key"] not in ("", other)
        assert job["values"] == {"serial": f"{number:04X}", "mac": job["mac"], "colour": f"colour {number:04d}"}
        assert token not in done.out + done.err


def test_faults_that_depend_on_the_recipe_are_refused_with_one(tmp_path: Path) -> None:
    """What comes of a weak radio depends on whether the recipe listens: the demo says so instead of judging wrongly."""
    said = station("demo", "--once", "--port", 0, "--recipe", BLINK, "--fault", "A1:weak_radio").refused(64)
    assert "depends on the recipe" in said
    done = station(
        *("demo", "--once", "--json", "--pace", 0, "--port", 0, "--slots", 2, "--recipe", BLINK),
        *("--fault", "A1:bad_md5"),
    )
    assert done.code == 0, done.err
    assert sorted(job["outcome"] for job in done.json["jobs"]) == ["FAIL", "PASS"]


def test_make_demo_names_the_recipe_only_when_it_is_given() -> None:
    """`make demo` alone is the demo's own product; RECIPE= reaches the command, also with a space in it."""
    assert "--recipe" not in make("--dry-run", "demo").out
    assert '--recipe "a recipe"' in make("--dry-run", "demo", "RECIPE=a recipe").out
    refused = make("demo", "RECIPE=deploy/recipes/nothing")
    assert refused.code != 0
    assert "does not exist" in refused.err


def test_every_example_tells_how_to_try_it_and_what_to_replace() -> None:
    """Each has a README of one screen with the command of the demo, and stands in the list of docs/recipes.md."""
    listed = (ROOT / "docs" / "recipes.md").read_text()
    for directory in (BLINK, WIFI_SENSOR, BARE_REPL):
        readme = (directory / "README.md").read_text()
        assert f"make demo RECIPE=deploy/recipes/{directory.name}\n" in readme
        assert "station recipe firmware" in readme
        assert "you replace" in readme
        assert len(readme.splitlines()) <= 50
        assert f"| `{directory.name}` |" in listed
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == {"blink", "wifi-sensor", "bare-repl"}
