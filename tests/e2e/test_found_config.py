"""Which configuration a command takes when nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from station.adapters.records import Database
from station.cli import options
from station.cli import station as command
from station.cli.options import database_url_or_default, default_config, load_or_default
from tests.e2e.command import one_line, station, write_config


def test_the_option_goes_before_the_environment_and_that_before_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--config`, then STATION_CONFIG, then /etc/station/station.toml where it can be read, then none at all."""
    system, named, given = (tmp_path / name / "station.toml" for name in ("etc", "named", "given"))
    for each in (system, named, given):
        each.parent.mkdir()
        each.write_text(f'[station]\nid = "{each.parent.name}"\nstate_dir = "{each.parent}"\n')
    monkeypatch.setattr(options, "SYSTEM_CONFIG", system)
    monkeypatch.setenv("STATION_CONFIG", "")

    def shown(*arguments: str) -> str:
        done = CliRunner().invoke(command, ["config", "show", *arguments])
        assert done.exit_code == 0, done.output
        return next(word for word in ("etc", "named", "given", '"id": ""') if word in done.output)

    assert shown() == "etc"
    assert database_url_or_default(None) == f"sqlite:///{system.parent / 'station.db'}"
    monkeypatch.setenv("STATION_CONFIG", str(named))
    assert shown() == "named"
    assert shown("--config", str(given)) == "given"
    assert database_url_or_default(None) == f"sqlite:///{named.parent / 'station.db'}"
    assert database_url_or_default(None, given) == f"sqlite:///{given.parent / 'station.db'}"
    assert database_url_or_default("sqlite:////x.db", given) == "sqlite:////x.db"
    monkeypatch.setenv("STATION_CONFIG", "")
    system.unlink()
    assert default_config() is None
    assert shown() == '"id": ""'
    assert load_or_default(None).state_dir == options.default_state_dir()


def test_commands_follow_the_configuration_of_the_environment(tmp_path: Path) -> None:
    """Records and slot map are those of STATION_CONFIG; a configuration that is not there is refused by name."""
    config = write_config(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/slots.json").write_text('{"A1": "pci:1"}')
    Database.open(f"sqlite:///{tmp_path / 'state/station.db'}").close()
    environment = {"STATION_CONFIG": str(config)}
    assert [row["slot"] for row in station("slots", "list", "--json", env=environment).json] == ["A1"]
    assert station("report", "jobs", "--format", "json", env=environment).json == []
    missing = {"STATION_CONFIG": str(tmp_path / "none.toml")}
    for words in (("report", "jobs"), ("slots", "list"), ("run",), ("lot", "open", "--by", "Eva")):
        assert "none.toml" in one_line(station(*words, env=missing).refused(78))
