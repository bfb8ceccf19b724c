"""Changes single values in a person's configuration: comments, order and everything else stay as they were written.

The new file is checked as a whole before it takes the place of the old one, and after a loss of power there is one of the
two. It must never leave a configuration behind that the station would refuse.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from station.config import load_config
from station.errors import ConfigurationError


def set_values(path: Path, values: Mapping[tuple[str, str], str]) -> bool:
    """Write `(section, key) -> text` into the configuration at `path`, which is made when it is not there.

    Returns whether anything had to be changed. Raises `ConfigurationError`: the file cannot be read or written, or would be
    refused as a whole.
    """
    try:
        before = path.read_text("utf-8") if path.exists() else ""
        document = tomlkit.parse(before)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigurationError(file=str(path), problem=f"cannot be read ({error})", fix="correct it") from None
    for (section, key), value in values.items():
        table = document.setdefault(section, tomlkit.table())
        if not isinstance(table, MutableMapping):
            raise ConfigurationError(file=str(path), key=section, problem="not a table", fix=f"write [{section}]")
        if table.get(key) != value:
            table[key] = value
    text = tomlkit.dumps(document)
    if text == before and path.exists():
        return False
    try:
        _replace(path, text)
    except OSError as error:
        raise ConfigurationError(
            file=str(path), problem=f"cannot be written ({error.strerror})", fix="run as root: sudo station setup"
        ) from None
    return True


def _replace(path: Path, text: str) -> None:
    """Put the text in the place of the file, with its owner and mode, once the station would accept it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    try:
        with draft.open("w", encoding="utf-8") as file:
            if path.exists():
                as_before = path.stat()
                os.fchmod(file.fileno(), as_before.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), as_before.st_uid, as_before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        load_config(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
