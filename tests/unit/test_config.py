"""The configuration: nothing in it is guessed, and every refusal names file, key, problem and fix."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config import DEFAULT_USB_IDS, Config, check_config, load_config, parse_listen
from station.errors import ConfigurationError


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
    "unknown section": Wrong("[flashign]\n", "", "`flashign`", SEE_DOCS),
    "unknown key": Wrong("[work]\nreceipe = 'x'\n", "work", "`receipe`", SEE_DOCS),
    "wrong type": Wrong("[flashing]\nconnect_attempts = 'four'\n", "flashing.connect_attempts", "got `str`", SEE_DOCS),
    "a yes that is text": Wrong("[work]\nrequire_lot = 'yes'\n", "work.require_lot", "Expected `bool`", SEE_DOCS),
    "unknown choice": Wrong("[usb]\nenroll = 'always'\n", "usb.enroll", "'always'", SEE_DOCS),
    "unknown wiring": Wrong("[flashing]\nwiring = 'magic'\n", "flashing.wiring", "'magic'", SEE_DOCS),
    "no time": Wrong("[flashing]\njob_deadline_s = 0\n", "flashing.job_deadline_s", "> 0", SEE_DOCS),
    "negative time": Wrong("[shutdown]\nfinish_s = -1\n", "shutdown.finish_s", ">= 0", SEE_DOCS),
    "never": Wrong("[flashing]\nprogress_deadline_s = inf\n", "flashing.progress_deadline_s", "<= 86400", SEE_DOCS),
    "no number": Wrong("[flashing]\nport_busy_s = nan\n", "flashing.port_busy_s", ">= 0", SEE_DOCS),
    "no attempts": Wrong("[flashing]\nconnect_attempts = 0\n", "flashing.connect_attempts", ">= 1", SEE_DOCS),
    "rung of a ladder": Wrong("[flashing]\nbaud_ladder = ['x']\n", "flashing.baud_ladder[0]", "got `str`", SEE_DOCS),
    "a place that is a number": Wrong("[slots]\nA1 = 5\n", "slots[...]", "got `int`", SEE_DOCS),
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


def test_what_is_right_is_taken_as_it_is_written(tmp_path: Path) -> None:
    """A configuration that uses every check's other side is accepted."""
    text = (
        "[usb]\nids = ['1a86:55d4']\nexcluded = ['pci-1']\nenroll = 'auto'\n[slots]\nA1 = 'pci-2'\nleft_2 = 'pci-3:1'\n"
        "[flashing]\nbaud_ladder = [115200]\nwiring = 'manual'\n[http]\nlisten = '[::1]:0'\n"
        "[metrics]\nlisten = '0.0.0.0:9100'\n"
    )
    config = load_config(write(tmp_path, text))
    assert config.slots == {"A1": "pci-2", "left_2": "pci-3:1"}
    assert (config.usb.excluded, config.usb.enroll) == (("pci-1",), "auto")
    assert config.flashing.baud_ladder == (115_200,)
    assert (config.http.listen, config.metrics.listen) == ("[::1]:0", "0.0.0.0:9100")


def test_the_first_thing_wrong_is_named_also_without_a_file() -> None:
    """A configuration made in the program is checked by the same rules, under the name it is given."""
    with pytest.raises(ConfigurationError, match=r"station demo: slots\.A1: empty place"):
        check_config(Config(slots={"A1": ""}), file="station demo")


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
