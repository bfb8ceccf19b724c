"""What recipes say of numbers, values, network and checks: taken as written, and refused where it makes no sense."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.errors import ConfigurationError
from station.recipe import load_recipe
from station.recipe.nearest import suggestion
from station.recipe.sections import SERIAL_SPEC
from station.recipe.text import RecipeFile
from tests.unit.recipe_rig import refusal, write_files, written

CHECK = '[[check]]\nname = "a"\nfile = "a.py"\n'
SOURCE = {"a.py": "def check():\n    return {}\n"}
EVERYTHING = """
[serial]
pool = "sensors"
format = "SN{number:06d}"
[values]
csv = "sites.csv"
by = "chip_id"
secret = ["token"]
[network]
access_point = "keep"
ssid = "bench"
key_secret = "wifi"
join_within_s = 12.5
webrepl_secret = "repl"
[checks.frequency]
[checks.flash_policy]
reject = ["0x85", "0x144068", "unknown"]
[checks.filesystem_fill]
share = 0.25
[checks.wifi_scan]
ssid = "bench"
[checks.gpio]
pins = [2]
[checks.boot]
unexpected_boots = 1
[signal]
led = "gpio2"
"""


def test_everything_that_is_written_reaches_the_recipe(tmp_path: Path) -> None:
    """Each section is in the loaded recipe as it stands, with the defaults of a table that is switched on."""
    recipe = load_recipe(written(tmp_path, EVERYTHING))
    assert (recipe.serial.pool, recipe.serial.format) == ("sensors", "SN{number:06d}")
    assert (recipe.values.csv, recipe.values.by, recipe.values.secret) == ("sites.csv", "chip_id", ("token",))
    assert (recipe.network.access_point, recipe.network.ssid, recipe.network.join_within_s) == ("keep", "bench", 12.5)
    assert (recipe.network.key_secret, recipe.network.webrepl_secret) == ("wifi", "repl")
    checks = recipe.checks
    assert checks.frequency is not None
    assert checks.frequency.hz == (80_000_000, 160_000_000)
    assert checks.flash_policy.reject == ("0x85", "0x144068", "unknown")
    assert checks.filesystem_fill is not None
    assert checks.filesystem_fill.share == 0.25
    assert checks.wifi_scan is not None
    assert (checks.wifi_scan.rssi_dbm, checks.wifi_scan.scans) == ((-75.0, -10.0), 3)
    assert checks.gpio is not None
    assert checks.gpio.pins == (2,)
    assert checks.boot is not None
    assert checks.boot.unexpected_boots == 1
    assert recipe.signal.led == "gpio2"


def test_without_a_word_nothing_is_asked_but_the_access_point_is_switched_off(tmp_path: Path) -> None:
    """A recipe of two keys has no numbers, values, files or checks; its boards leave with their own access point off."""
    recipe = load_recipe(written(tmp_path))
    assert (recipe.serial.pool, recipe.values.csv, recipe.own_checks, recipe.signal.led) == ("", "", (), "none")
    assert (recipe.files.files, recipe.files.delete, recipe.files.delete_others) == ((), (), False)
    assert (recipe.network.access_point, recipe.network.ssid, recipe.network.webrepl_secret) == ("off", "", "")
    assert [recipe.checks.frequency, recipe.checks.wifi_scan, recipe.checks.gpio, recipe.checks.boot] == [None] * 4


def test_each_section_changes_the_hash(tmp_path: Path) -> None:
    """Every setting beside its default is another recipe; a default written out is not; the network is always in."""
    plain = load_recipe(written(tmp_path))
    assert '"network":{' in plain.canonical
    assert (
        load_recipe(written(tmp_path, '[network]\naccess_point = "off"\n[signal]\nled = "none"\n')).hash == plain.hash
    )
    hashes = {plain.hash}
    sections = EVERYTHING.strip().split("\n[")
    for section in ("[" + each.lstrip("[") + "\n" for each in sections):
        hashes.add(load_recipe(written(tmp_path, section)).hash)
    assert len(hashes) == 1 + len(sections)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ('[serial]\npool = "a/b"\n', "serial.pool", "is no name"),
        ('[serial]\nformat = "SN{number}"\n', "serial.format", "there is no pool"),
        *(
            (f'[serial]\npool = "p"\nformat = "{form}"\n', "serial.format", "")
            for form in (
                "SN", "{}", "{n}", "{number}{number}", "{number!r}", "{number.real}", "{number[0]}", "{number:}}", "{",
                "{number:10000d}", "{number:x>5}", "{number:f}", "{number:{number}}",
            )
        ),
        ('[values]\ncsv = "../x.csv"\n', "values.csv", "no name of a file"),
        ('[values]\nsecret = ["x"]\n', "values.secret", "there is no table"),
        ('[values]\nby = "name"\n', "values.by", "'name'"),
        ('[network]\nkey_secret = "k"\n', "network.key_secret", "no network to join"),
        ("[network]\njoin_within_s = 5\n", "network.join_within_s", "no network to join"),
        ('[network]\nssid = "x"\nkey_secret = "../k"\n', "network.key_secret", "no name of a secret"),
        ('[network]\nwebrepl_secret = "k"\n', "network.webrepl_secret", "nobody can reach WebREPL"),
        ('[network]\naccess_point = "on"\n', "network.access_point", "'on'"),
        ("[checks.frequency]\nhz = []\n", "checks.frequency.hz", "[]"),
        ("[checks.frequency]\nhz = [40000000]\n", "checks.frequency.hz", "40000000"),
        ('[checks.flash_policy]\nreject = ["PUYA"]\n', "checks.flash_policy.reject", "'PUYA' is no flash id"),
        ('[checks.flash_policy]\nallow = ["0x1234"]\n', "checks.flash_policy.allow", "no flash id"),
        ("[checks.filesystem_fill]\nshare = 1.0\n", "checks.filesystem_fill.share", "<= 0.95"),
        ("[checks.wifi_scan]\n", "checks.wifi_scan", "`ssid`"),
        ('[checks.wifi_scan]\nssid = "x"\nrssi_dbm = [-10, -75]\n', "checks.wifi_scan.rssi_dbm", "-10 is above -75"),
        ('[checks.wifi_scan]\nssid = "MicroPython-1"\n', "checks.wifi_scan.ssid", "every fresh board"),
        ("[checks.boot]\nto_prompt_s = [nan, 1]\n", "checks.boot.to_prompt_s", "nan is above 1"),
        ("[checks.gpio]\npins = [5]\n", "checks.gpio.pins[0]", "5"),
        ("[checks.gpio]\npins = []\n", "checks.gpio.pins", "names no pin"),
        ("[checks.gpo]\n", "checks.gpo", "did you mean `gpio`"),
        ("[checks.wifi_scan]\nsid = 'x'\nssid = 'x'\n", "checks.wifi_scan.sid", "did you mean `ssid`"),
        (f"{CHECK}{CHECK}", "check[1].name", "'a' is there twice"),
        (f"{CHECK}limits = {{ x = [2, 1] }}\n", "check[0].limits.x", "2 is above 1"),
        (f"{CHECK}limits = {{ X = 1 }}\n", "check[0].limits", "'X' is no name"),
        (f"{CHECK}units = {{ 'a b' = 'V' }}\n", "check[0].units", "'a b' is no name"),
        (f"{CHECK}limits = {{ done = [5, 9] }}\n", "check[0].limits", "'done' is no name"),
        (f"{CHECK}limits = {{ x = nan }}\n", "check[0].limits.x", "nothing equals nan"),
        (f"{CHECK}timeout = 5\n", "check[0].timeout", "did you mean `timeout_s`"),
        ('[[check]]\nname = "A"\nfile = "a.py"\n', "check[0].name", ""),
        ("webrepl_secret = 'x'\n[flash]\n", "firmware.webrepl_secret", "did you mean `network.webrepl_secret`"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path: Path, text: str, key: str, says: str) -> None:
    """The refusal names the key and what is wrong with it, the nearest name included."""
    error = refusal(written(tmp_path, text, SOURCE))
    assert error.key == key
    assert says in error.problem
    assert error.fix


@pytest.mark.parametrize("form", ["{number}", "SN{number:06d}", "{number:04X}-x", "{{{number:d}}}"])
def test_formats_of_numbers(tmp_path: Path, form: str) -> None:
    """Text around one number, in decimal or hexadecimal, with leading zeros."""
    recipe = load_recipe(written(tmp_path, f'[serial]\npool = "p"\nformat = "{form}"\n'))
    assert recipe.serial.format.format(number=7)


@given(st.text(), st.integers(0, 10**9))
def test_every_format_that_is_allowed_works_for_every_number(spec: str, number: int) -> None:
    """What the pattern lets through, Python formats; so no board is the first to find out."""
    if SERIAL_SPEC.fullmatch(spec):
        assert format(number, spec)


def test_a_name_far_from_all_gets_no_suggestion() -> None:
    """Nothing is better than something that misleads; a key of another section is told with it."""
    assert suggestion("qqqqq", RecipeFile, "") == ""
    assert suggestion("cold_boots", RecipeFile, "policy") == ", did you mean `cold_boot`?"
    assert suggestion("cold_boot", RecipeFile, "files") == ", did you mean `policy.cold_boot`?"
    assert suggestion("x", RecipeFile, "no.such[0].place") == ""


@pytest.mark.parametrize(
    "text",
    [
        'name = "a\\u0000"\n[flash]\n',
        '"a\\u0000" = 1\n[flash]\n',
        f'[files]\ntree = "{"x" * 5000}"\n',
        f'[[check]]\nname = "a"\nfile = "{"x" * 5000}"\n',
        '[files]\ntree = "files"\ncompile = ["\\u0000"]\n',
    ],
)
def test_what_no_path_can_be_is_refused_like_everything_else(tmp_path: Path, text: str) -> None:
    """A NUL and a name of 5000 characters make a sentence, not a traceback."""
    assert refusal(written(tmp_path, text)).fix
    assert refusal(with_path(tmp_path, "x" * 5000)).fix


def with_path(directory: Path, image: str) -> Path:
    """A recipe whose image is called so."""
    write_files(directory, {"other.toml": f'[firmware]\npath = "{image}"\nsha256 = "{"0" * 64}"\n'})
    return directory / "other.toml"


def said_of(path: Path) -> str:
    """Why a recipe is refused; empty where it loads."""
    try:
        load_recipe(path)
    except ConfigurationError as error:
        return str(error)
    return ""


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_recipe_loads_or_is_refused(data: st.DataObject) -> None:
    """Whatever is cut out of a recipe, doubled or put into it: a recipe or words for a person, never a traceback."""
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), EVERYTHING + CHECK, SOURCE)
        text = path.read_text()
        start = data.draw(st.integers(0, len(text)))
        end = start + data.draw(st.integers(0, 30))
        scraps = st.sampled_from(["[", "=", '"', "-1", "nan", "\\u0000", "[[image]]\n"])
        put = data.draw(st.one_of(st.just(text[start:end] * 2), st.text(max_size=5), scraps))
        path.write_bytes((text[:start] + put + text[end:]).encode("utf-8", "surrogatepass"))
        said = said_of(path)
        assert not said or ". Fix: " in said
