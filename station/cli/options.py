"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
SYSTEM_STATE_DIR = Path("/var/lib/station")


def database_option(*, help_text: str) -> Callable[[F], F]:
    """`--db URL`."""
    return click.option("--db", "database_url", metavar="URL", help=f"{help_text} For example sqlite:///station.db")


def default_state_dir() -> Path:
    """Return the station's own state directory where we may write there, else the user's (XDG base directories)."""
    if os.access(SYSTEM_STATE_DIR, os.W_OK):
        return SYSTEM_STATE_DIR
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "station"


def database_url_or_default(database_url: str | None) -> str:
    """Return the URL that was asked for, or that of the default records."""
    return database_url or f"sqlite:///{default_state_dir() / 'station.db'}"
