"""Options that several commands share, and how a command finds the station's own configuration and records.

`--config` goes before the environment's `STATION_CONFIG`, that before `/etc/station/station.toml` where it can be read;
where there is none of them, commands that can do without use the defaults and the user's own directories. Importing this
module reads nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from station.config import Config, StationSection, load_config

F = TypeVar("F", bound=Callable[..., Any])
SYSTEM_STATE_DIR = Path("/var/lib/station")
SYSTEM_CONFIG = Path("/etc/station/station.toml")
CONFIG_VARIABLE = "STATION_CONFIG"
_HELP = f"station.toml; default: ${CONFIG_VARIABLE}, else {SYSTEM_CONFIG} where it is there."


def default_config() -> Path | None:
    """Return the configuration of this machine: the one the environment names, else the system's if it can be read."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return SYSTEM_CONFIG if os.access(SYSTEM_CONFIG, os.R_OK) else None


def _needed(context: click.Context, parameter: click.Parameter, found: Path | None) -> Path:
    """Refuse what is neither given nor found."""
    if found is None:
        raise click.MissingParameter(ctx=context, param=parameter)
    return found


config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=default_config, help=_HELP
)
"""`--config FILE` of commands that can do without: `config_path` is a Path, or None where there is no configuration."""

needed_config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=default_config, callback=_needed, help=_HELP
)
"""`--config FILE` of commands that cannot do without: `config_path` is a Path."""


def database_option(*, help_text: str) -> Callable[[F], F]:
    """`--db URL`."""
    return click.option("--db", "database_url", metavar="URL", help=f"{help_text} For example sqlite:///station.db")


def default_state_dir() -> Path:
    """Return the station's own state directory where we may write there, else the user's (XDG base directories)."""
    if os.access(SYSTEM_STATE_DIR, os.W_OK):
        return SYSTEM_STATE_DIR
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "station"


def load_or_default(config_path: Path | None) -> Config:
    """Load the configuration; None: the defaults, with the state directory of `default_state_dir`.

    Raises `ConfigurationError`.
    """
    return (
        load_config(config_path) if config_path else Config(station=StationSection(state_dir=str(default_state_dir())))
    )


def database_url_or_default(database_url: str | None, config_path: Path | None = None) -> str:
    """Return the URL that was asked for, else that of the given or found configuration, else of the default records.

    Raises `ConfigurationError`.
    """
    return database_url or load_or_default(config_path or default_config()).database_url
