"""The configuration: nothing in it is guessed, and every refusal names file, key, problem and fix."""

from __future__ import annotations

import itertools
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config import DEFAULT_USB_IDS, Config, SlotSection, check_config, load_config, parse_listen
from station.errors import ConfigurationError
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties, refusal


def write(directory: Path, text: str) -> Path:
    """Write a configuration and return its path."""
    path = directory / "station.toml"
    path.write_text(text, encoding="utf-8")
    return path


@dataclass(frozen=True)
class Wrong:
    """A configuration that must be refused: what in it is wrong, and what the refusal must name."""

    text: str
    key: str
    says: str
    fix: str


SEE_DOCS = "docs/configuration.md"
LADDER = "[460800, 230400, 115200]"
WRONG = {
    "syntax": Wrong("[work]\nrecipe = thing.toml\n", "", "line 2", "correct that line"),
    "twice": Wrong("[work]\n[work]\n", "", "line 2", "correct that line"),
    "unknown section": Wrong("[flashign]\n", "flashign", "did you mean `flashing`", SEE_DOCS),
    "unknown key": Wrong("[work]\nreceipe = 'x'\n", "work.receipe", "did you mean `recipe`", SEE_DOCS),
    "wrong type": Wrong("[flashing]\nconnect_attempts = 'four'\n", "flashing.connect_attempts", "got `str`", SEE_DOCS),
    "a yes that is text": Wrong("[work]\nrequire_lot = 'yes'\n", "work.require_lot", "Expected `bool`", SEE_DOCS),
    "unknown choice": Wrong("[usb]\nenroll = 'always'\n", "usb.enroll", "'always'", SEE_DOCS),
    "wiring of an earlier version": Wrong(
        "[flashing]\nwiring = 'manual'\n",
        "flashing.wiring",
        'replaced by slot_defaults.reset = "none"',
        "delete the line",
    ),
    "wiring of an earlier version, auto": Wrong(
        "[flashing]\nbaud_ladder = [9600]\nwiring = 'auto'\n",
        "flashing.wiring",
        "slot_defaults.reset",
        "delete the line",
    ),
    "wiring elsewhere": Wrong("[work]\nwiring = 'auto'\n", "work.wiring", "`wiring`", SEE_DOCS),
    "no time": Wrong("[flashing]\njob_deadline_s = 0\n", "flashing.job_deadline_s", "> 0", SEE_DOCS),
    "negative time": Wrong("[shutdown]\nfinish_s = -1\n", "shutdown.finish_s", ">= 0", SEE_DOCS),
    "never": Wrong("[flashing]\nprogress_deadline_s = inf\n", "flashing.progress_deadline_s", "<= 86400", SEE_DOCS),
    "no number": Wrong("[flashing]\nport_busy_s = nan\n", "flashing.port_busy_s", ">= 0", SEE_DOCS),
    "no attempts": Wrong("[flashing]\nconnect_attempts = 0\n", "flashing.connect_attempts", ">= 1", SEE_DOCS),
    "rung of a ladder": Wrong("[flashing]\nbaud_ladder = ['x']\n", "flashing.baud_ladder[0]", "got `str`", SEE_DOCS),
    "a place that is a number": Wrong("[slots]\nA1 = 'x'\nA2 = 5\n", "slots.A2", "got `int`", SEE_DOCS),
    "slots that are no table": Wrong("slots = 5\n", "slots", "got `int`", SEE_DOCS),
    "place of a table that is a number": Wrong("[slots.B3]\nplace = 5\n", "slots.B3.place", "got `int`", SEE_DOCS),
    "unknown key of a slot": Wrong(
        "[slots]\nA1 = 'x'\nB3 = { rest = 'none' }\n", "slots.B3.rest", "did you mean `reset`", SEE_DOCS
    ),
    "unknown reset": Wrong("[slots]\nB3 = { reset = 'rts' }\n", "slots.B3.reset", "'rts'", SEE_DOCS),
    "unknown gpio0": Wrong("[slots]\nB3 = { gpio0 = 'low' }\n", "slots.B3.gpio0", "'low'", SEE_DOCS),
    "unknown moves": Wrong("[slots.B3]\nmoves = 'hub'\n", "slots.B3.moves", "'hub'", SEE_DOCS),
    "unknown role": Wrong("[slots.B3]\nrole = 'rest'\n", "slots.B3.role", "'rest'", SEE_DOCS),
    "unknown default": Wrong("[slot_defaults]\nreset = 'rts'\n", "slot_defaults.reset", "'rts'", SEE_DOCS),
    "a place for all": Wrong("[slot_defaults]\nplace = 'x'\n", "slot_defaults.place", "`place`", SEE_DOCS),
    "label of a table": Wrong("[slots.1A]\nrole = 'test'\n", "slots.1A", "not a slot label", "a letter, then"),
    "empty place in a table": Wrong("[slots.A1]\nplace = ''\n", "slots.A1", "empty place", "ID_PATH"),
    "a place in a table and beside it": Wrong(
        "[slots]\nA1 = 'x'\nA2 = { place = 'x' }\n", "slots.A2", "x is already A1", "of its own"
    ),
    "GPIO0 by lines that are not there": Wrong(
        "[slots]\nB3 = { place = 'x', reset = 'none', gpio0 = 'lines' }\n",
        "slots.B3",
        'gpio0 = "lines" with reset = "none": a line can ground GPIO0 only while the board starts',
        'write gpio0 = "hand", or reset = "lines"',
    ),
    "made where GPIO0 is never low": Wrong(
        "[slots.B3]\ngpio0 = 'never_low'\n",
        "slots.B3",
        'gpio0 = "never_low" with role = "make": without GPIO0 at GND no board enters its loader, so nothing can be flashed'
        " here (role from slot_defaults)",
        'write role = "test" or "inspect"',
    ),
    "tested where GPIO0 is always low": Wrong(
        "[slots.B3]\ngpio0 = 'always_low'\nrole = 'test'\n",
        "slots.B3",
        'gpio0 = "always_low" with role = "test": a board that gets power here starts its loader',
        'write role = "make", "flash" or "inspect"',
    ),
    "reset by default and GPIO0 by table": Wrong(
        "[slot_defaults]\nreset = 'none'\n[slots]\nB2 = { gpio0 = 'hand' }\nB3 = { gpio0 = 'lines' }\n",
        "slots.B3",
        "and nothing here restarts it (reset from slot_defaults)",
        'reset = "lines"',
    ),
    "GPIO0 by default and role by table": Wrong(
        "[slot_defaults]\ngpio0 = 'always_low'\nrole = 'flash'\n[slots]\nB3 = { role = 'test' }\n",
        "slots.B3",
        "(gpio0 from slot_defaults)",
        'role = "make", "flash" or "inspect"',
    ),
    "a place beside defaults that refuse it": Wrong(
        "[slot_defaults]\ngpio0 = 'never_low'\n[slots]\nB3 = 'x'\n",
        "slot_defaults",
        'gpio0 = "never_low" with role = "make"',
        'role = "test"',
    ),
    "defaults that contradict each other": Wrong(
        "[slot_defaults]\nreset = 'none'\ngpio0 = 'lines'\n", "slot_defaults", 'with reset = "none"', 'gpio0 = "hand"'
    ),
    "USB id": Wrong("[usb]\nids = ['1A86:7523']\n", "usb.ids", "'1A86:7523' is no USB id", '"1a86:7523"'),
    "short USB id": Wrong("[usb]\nids = ['1a86:7523', '1a86']\n", "usb.ids", "'1a86' is no USB id", "lsusb"),
    "slot label": Wrong("[slots]\n1A = 'x'\n", "slots.1A", "not a slot label", "a letter, then"),
    "long slot label": Wrong(f"[slots]\n{'A' * 17} = 'x'\n", f"slots.{'A' * 17}", "not a slot label", "15"),
    "label with a space": Wrong("[slots]\n'A 1' = 'x'\n", "slots.A 1", "not a slot label", "digits"),
    "empty place": Wrong("[slots]\nA1 = ''\n", "slots.A1", "empty place", "ID_PATH"),
    "two slots in one place": Wrong("[slots]\nA1 = 'x'\nA2 = 'x'\n", "slots.A2", "x is already A1", "of its own"),
    "empty ladder": Wrong("[flashing]\nbaud_ladder = []\n", "flashing.baud_ladder", "not a falling list", LADDER),
    "rising ladder": Wrong(
        "[flashing]\nbaud_ladder = [115200, 460800]\n", "flashing.baud_ladder", "not a falling list", LADDER
    ),
    "the same rung twice": Wrong(
        "[flashing]\nbaud_ladder = [115200, 115200]\n", "flashing.baud_ladder", "not a falling list", LADDER
    ),
    "slow rung": Wrong("[flashing]\nbaud_ladder = [300]\n", "flashing.baud_ladder", "at least 9600", LADDER),
    "no port": Wrong("[http]\nlisten = '127.0.0.1'\n", "http.listen", "is not ADDRESS:PORT", "127.0.0.1:8080"),
    "port too high": Wrong("[http]\nlisten = '127.0.0.1:65536'\n", "http.listen", "is not ADDRESS:PORT", "8080"),
    "host name": Wrong("[http]\nlisten = 'bench.lan:80'\n", "http.listen", "is not ADDRESS:PORT", "127.0.0.1:8080"),
    "page for everybody": Wrong("[http]\nlisten = '0.0.0.0:80'\n", "http.listen", "not a loopback", "metrics.listen"),
    "page in the office": Wrong("[http]\nlisten = '[fe80::1]:80'\n", "http.listen", "not a loopback", "metrics.listen"),
    "metrics": Wrong("[metrics]\nlisten = 'here'\n", "metrics.listen", "is not ADDRESS:PORT", "127.0.0.1:8080"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_configuration_names_file_key_problem_and_fix(tmp_path: Path, case: str) -> None:
    """Whoever wrote the file reads which file, which key, what is wrong and what to write instead, in one line."""
    wrong = WRONG[case]
    path = write(tmp_path, wrong.text)
    with pytest.raises(ConfigurationError) as refused:
        load_config(path)
    error = refused.value
    assert (error.file, error.key) == (str(path), wrong.key)
    assert wrong.says in error.problem
    assert wrong.fix in error.fix
    assert str(error).count("\n") == 0


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing or unreadable file is a message about that path, not a traceback."""
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read \(No such file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match=r"cannot be read \(Is a directory\)"):
        load_config(tmp_path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file in another encoding is named with the byte where it stops being UTF-8."""
    path = tmp_path / "station.toml"
    path.write_bytes("[station]\nid = 'Prüfplatz'".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"not UTF-8 text \(byte 18\)\. Fix: save the file as UTF-8"):
        load_config(path)


def test_an_empty_configuration_is_the_defaults(tmp_path: Path) -> None:
    """Nothing needs to be written: an empty file gives the same station as no section at all."""
    config = load_config(write(tmp_path, ""))
    assert config == Config()
    assert config.usb.ids == DEFAULT_USB_IDS
    assert {"1a86:7523", "1a86:7522", "1a86:5523", "4348:5523"} <= set(DEFAULT_USB_IDS)
    assert config.flashing.baud_ladder == (460_800, 230_400, 115_200)
    assert config.flashing.identity_reads_over_s >= 0.3
    assert (config.usb.enroll, config.work.require_lot) == ("never", False)
    assert config.http.listen.startswith("127.0.0.1:")


def test_names_and_places_have_defaults(tmp_path: Path) -> None:
    """Without an id the station is called as its host, and the records lie in the state directory."""
    config = load_config(write(tmp_path, f"[station]\nstate_dir = '{tmp_path}'\n"))
    assert config.station_id == socket.gethostname()
    assert config.database_url == f"sqlite:///{tmp_path}/station.db"
    named = load_config(write(tmp_path, "[station]\nid = 'bench-1'\n[database]\nurl = 'sqlite:////x.db'\n"))
    assert (named.station_id, named.database_url) == ("bench-1", "sqlite:////x.db")


def test_a_relative_recipe_is_meant_from_where_the_file_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's working directory does not matter; an absolute path stays as it is."""
    path = write(tmp_path, "[work]\nrecipe = 'recipes/thing.toml'\n")
    monkeypatch.chdir("/")
    assert load_config(path).work.recipe == str(tmp_path / "recipes" / "thing.toml")
    absolute = write(tmp_path, "[work]\nrecipe = '/etc/station/thing.toml'\n")
    assert load_config(absolute).work.recipe == "/etc/station/thing.toml"


@pytest.mark.parametrize("key", ["values", "secrets"])
def test_directories_of_data_are_meant_from_where_the_file_stands_and_are_no_state(tmp_path: Path, key: str) -> None:
    """As a recipe; the state directory is refused, for what lies in it gets into backups."""
    assert getattr(load_config(write(tmp_path, f"[work]\n{key} = 'of boards'\n")).work, key) == str(
        tmp_path / "of boards"
    )
    assert getattr(load_config(write(tmp_path, f"[work]\n{key} = '/srv/x'\n")).work, key) == "/srv/x"
    written = f"[station]\nstate_dir = '{tmp_path}'\n[work]\n{key} = '.'\n"
    with pytest.raises(
        ConfigurationError, match="is the state directory, whose files are copied into backups"
    ) as refused:
        load_config(write(tmp_path, written))
    assert refused.value.key == f"work.{key}"


def test_what_is_right_is_taken_as_it_is_written(tmp_path: Path) -> None:
    """A configuration that uses every check's other side is accepted."""
    text = (
        "[usb]\nids = ['1a86:55d4']\nexcluded = ['pci-1']\nenroll = 'auto'\n[slots]\nA1 = 'pci-2'\nleft_2 = 'pci-3:1'\n"
        "[flashing]\nbaud_ladder = [115200]\n[http]\nlisten = '[::1]:0'\n"
        "[metrics]\nlisten = '0.0.0.0:9100'\n"
    )
    config = load_config(write(tmp_path, text))
    assert config.slots == config.places == {"A1": "pci-2", "left_2": "pci-3:1"}
    assert (config.usb.excluded, config.usb.enroll) == (("pci-1",), "auto")
    assert config.flashing.baud_ladder == (115_200,)
    assert (config.http.listen, config.metrics.listen) == ("[::1]:0", "0.0.0.0:9100")


def test_the_first_thing_wrong_is_named_also_without_a_file() -> None:
    """A configuration made in the program is checked by the same rules, under the name it is given."""
    with pytest.raises(ConfigurationError, match=r"station demo: slots\.A1: empty place"):
        check_config(Config(slots={"A1": ""}), file="station demo")


def written(properties: SlotProperties) -> str:
    """The keys of a TOML table that say these properties."""
    values = {name: getattr(properties, name) for name in ("reset", "gpio0", "moves", "role")}
    return "".join(f"{name} = '{value}'\n" for name, value in values.items() if value is not None)


@pytest.mark.parametrize("where", ["slots.B3", "slot_defaults"])
def test_every_combination_that_makes_sense_is_taken_and_every_other_refused(tmp_path: Path, where: str) -> None:
    """All 180, as a table of one slot and as defaults of all: loaded as written, or refused for the slot and the reason."""
    refused = 0
    for reset, gpio0, moves, role in itertools.product([*Reset, None], [*Gpio0, None], Moves, Role):
        properties = SlotProperties(reset=reset, gpio0=gpio0, moves=moves, role=role)
        path = write(tmp_path, f"[{where}]\n{written(properties)}")
        reason, _, fix = refusal(properties).partition("; ")
        if not reason:
            assert load_config(path).slot_properties("B3") == properties
            continue
        with pytest.raises(ConfigurationError) as error:
            load_config(path)
        assert (error.value.file, error.value.key) == (str(path), where)
        assert (error.value.problem, error.value.fix) == (reason, fix)
        refused += 1
    assert refused == 13 * len(Moves)


def test_every_combination_of_defaults_and_table_is_judged_as_a_whole(tmp_path: Path) -> None:
    """Whatever half of the properties stands in the defaults, what comes of both together is taken or refused."""
    for reset, gpio0, role in itertools.product(Reset, Gpio0, Role):
        whole = SlotProperties(reset=reset, gpio0=gpio0, role=role)
        common = SlotProperties(reset=reset, role=role)
        path = write(tmp_path, f"[slot_defaults]\n{written(common)}[slots.B3]\ngpio0 = '{gpio0}'\n")
        if not refusal(whole):
            assert load_config(path).slot_properties("B3") == whole
            continue
        with pytest.raises(ConfigurationError, match="from slot_defaults") as error:
            load_config(path)
        assert error.value.key == "slots.B3"


def test_a_slot_is_a_place_or_a_table_and_each_key_of_it_may_be_left_out(tmp_path: Path) -> None:
    """Inline or not, with a place or without; a table's keys go before the defaults, one by one."""
    text = (
        "[slots]\nA1 = 'pci-1'\nA2 = { place = 'pci-2', role = 'test' }\nA3 = {}\n"
        "[slots.A4]\nreset = 'lines'\nmoves = 'board'\n"
        "[slot_defaults]\nreset = 'none'\ngpio0 = 'hand'\nmoves = 'either'\nrole = 'flash'\n"
    )
    config = load_config(write(tmp_path, text))
    assert list(config.slots) == ["A1", "A2", "A3", "A4"]
    assert config.places == {"A1": "pci-1", "A2": "pci-2"}
    common = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND, moves=Moves.EITHER, role=Role.FLASH)
    assert [config.slot_properties(label) for label in ("A1", "A2", "A3", "A4", "never heard of")] == [
        common,
        replace(common, role=Role.TEST),
        common,
        replace(common, reset=Reset.LINES, moves=Moves.BOARD),
        common,
    ]
    assert config.slot_section("A1") == SlotSection(place="pci-1")


def test_without_a_word_a_slot_makes_boards_and_the_rest_is_found_out() -> None:
    """An empty configuration leaves reset and GPIO0 open, for the first board to show."""
    assert Config().slot_properties("A1") == SlotProperties()


def test_a_configuration_cannot_be_changed() -> None:
    """What was read at start stays: the structs are frozen."""
    config = Config()
    with pytest.raises(AttributeError):
        config.work.recipe = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_host_and_port(listen: str, expected: tuple[str, int]) -> None:
    """Host and port are what stands before and after the last colon, brackets around IPv6 aside."""
    assert parse_listen(listen) == expected


@given(text=st.text(max_size=20))
def test_no_address_is_taken_apart_wrongly(text: str) -> None:
    """Any text is either an address whose port is a port, or refused with ValueError and nothing else."""
    try:
        host, port = parse_listen(text)
    except ValueError:
        return
    assert host or text.startswith("[]")
    assert 0 <= port <= 65535
