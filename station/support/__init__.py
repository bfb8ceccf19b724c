"""`station support`: one file for a bug report, with what a stranger needs to understand this station, and nothing secret.

Secrets are taken out of every member (`station.support.redaction`). What cannot be collected is named in the file, and keeps
nothing else from being in it. The file is made new, for its owner only (0600); nothing is sent anywhere.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from station.bundle import look_into, recipe_text
from station.config import Config
from station.errors import ConfigurationError, StationError
from station.secrets import SERVICE_CREDENTIALS, Secrets, readable_secrets, secrets_directory
from station.support.collecting import Station, collectors
from station.support.redaction import Redaction
from station.values import load_values

_README = """\
Made by `station support` on {made_at} for {station_id}.

Values of keys named like secrets and passwords in addresses were replaced by [redacted], in every file. Look through the
files before you hand them on: what a board or another program wrote into a log without such a name cannot be known.

In it:
{members}

Could not be collected:
{missing}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What was written."""

    file: Path
    members: Mapping[str, int]
    """Name -> bytes."""
    missing: Mapping[str, str]
    """Name -> why it could not be collected."""


def write_bundle(
    config: Config,
    config_path: Path | None,
    out: Path | None,
    *,
    config_error: ConfigurationError | None = None,
    root: Path = Path("/"),
) -> Bundle:
    """Collect everything and write it to `out`, by default a new file with the station's name in the working directory.

    `config_path` is where the configuration came from, `config_error` why it could not be used. Raises
    `ConfigurationError` when the file exists or cannot be written.
    """
    made_at = datetime.now(UTC)
    name = re.sub(r"[^A-Za-z0-9_-]", "_", config.station_id)
    file = out or Path(f"station-support-{name}-{made_at:%Y%m%dT%H%M%SZ}.tar.gz")
    station = Station(
        config=config,
        config_error=config_error,
        config_path=config_path,
        root=root,
        redaction=_redaction(config, config_path, root),
    )
    handle = _new_file(file)
    with os.fdopen(handle, "wb") as stream:
        members, missing = _collect(station)
        listed = "\n".join(f"  {each} ({len(content)} bytes)" for each, content in members.items())
        unlisted = "\n".join(f"  {each}: {why}" for each, why in missing.items()) or "  nothing: all of it is here"
        readme = _README.format(
            made_at=f"{made_at:%Y-%m-%d %H:%M:%S} UTC", station_id=config.station_id, members=listed, missing=unlisted
        )
        whole = {"README.txt": station.redaction.text(readme).encode(), **members}
        _write(stream, whole, made_at)
    return Bundle(file=file, members={each: len(content) for each, content in whole.items()}, missing=missing)


def _collect(station: Station) -> tuple[dict[str, bytes], dict[str, str]]:
    members: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    for name, collect in collectors(station):
        try:
            text = collect()
        except (OSError, StationError, ValueError, subprocess.SubprocessError) as error:
            missing[name] = station.redaction.text(str(error))
        else:
            # Once more over the whole: nothing gets in that a collector forgot.
            members[name] = station.redaction.text(text).encode(errors="backslashreplace")
    return members, missing


def _redaction(config: Config, config_path: Path | None, root: Path) -> Redaction:
    """What must not leave the machine, learnt from every file of settings that can be read."""
    files = (config_path, Path(config.work.recipe) if config.work.recipe else None, config.state_dir / "slots.json")
    texts = []
    for file in files:
        try:
            texts.append(recipe_text(file) if file else "")
        except (OSError, ConfigurationError):
            continue  # what cannot be read cannot be collected either
    return Redaction(*texts, secrets=_secrets_of_boards(config, root))


def _secrets_of_boards(config: Config, root: Path) -> Secrets:
    """What recipes give to boards, as far as this person can read it; what cannot be read is in no file either."""
    values: list[str] = []
    if config.work.values and config.work.recipe:
        with suppress(ConfigurationError):
            section = look_into(Path(config.work.recipe)).values
            if section.csv:
                table = load_values(Path(config.work.values) / section.csv)
                values = [value for column in section.secret for value in table.column(column)]
    directory = secrets_directory(config.work.secrets) or root / SERVICE_CREDENTIALS
    return Secrets(readable_secrets(directory), many=values)


def _new_file(file: Path) -> int:
    """Create it for its owner only; a file that is there already is never written over, and no link is followed."""
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(file=str(file), problem="exists already", fix="name another file by --out") from None
    except OSError as error:
        raise ConfigurationError(
            file=str(file), problem=f"cannot be written ({error.strerror})", fix="name another file by --out"
        ) from None


def _write(stream: io.BufferedWriter, members: Mapping[str, bytes], made_at: datetime) -> None:
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            about = tarfile.TarInfo(f"station-support/{name}")
            about.size, about.mtime, about.mode = len(content), int(made_at.timestamp()), 0o600
            archive.addfile(about, io.BytesIO(content))
