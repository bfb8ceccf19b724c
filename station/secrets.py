"""What must never be seen, and how it is taken out of everything that leaves a job: bytes, text, values.

A secret is a text that comes from a file that not everybody can read, or from a column of values that the recipe calls
secret. It is found in each form in which board, library or program may repeat it: as it is, quoted and escaped,
as hex, as base64 at any offset, and cut at either edge of what was kept. This module must never put a secret, or a hash of
one, into an exception or into what `repr` shows.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import AnyStr
from urllib.parse import quote

from station.errors import SecretUnusable

REDACTED = "[redacted]"
SHORTEST, LONGEST = 4, 4096
"""In characters. What is shorter cannot be taken out of anything without destroying it."""
LEAST_AT_EDGE = 4
"""So many characters of a secret that was cut off are taken out at the edge of a text; fewer may be anything."""
SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}")
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what `LoadCredential=` names (systemd.exec(5)), as it tells the service."""
SERVICE_CREDENTIALS = "run/credentials/station.service"
"""The same, from the root directory, for root while the service runs."""
REMEMBERED = 128
"""The log takes out what so many boards were given last; no bench has as many slots."""


class Secrets:
    """Some secrets that belong together, such as those of one board. Immutable, thread-safe, and silent about itself.

    `many` are those of whole tables, of which there may be thousands: they are looked for as they are written, only.
    """

    def __init__(self, values: Iterable[str] = (), *, many: Iterable[str] = ()) -> None:
        self._values = frozenset(value for value in values if len(value) >= SHORTEST)
        self._many = tuple((value, value.encode()) for value in sorted(set(many)) if len(value) >= SHORTEST)
        self._forms = list({form for value in self._values for form in _forms(value)})
        self._bytes_forms = [form.encode() for form in self._forms]
        self._text = _either(self._forms, "|") if self._forms else None
        self._bytes = _either(self._bytes_forms, b"|") if self._forms else None

    def __repr__(self) -> str:
        """Say how many, nothing else."""
        return f"Secrets({len(self._values) + len(self._many)})"

    def __bool__(self) -> bool:
        """Whether there is anything to take out."""
        return bool(self._values or self._many)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same secrets."""
        return isinstance(other, Secrets) and (self._values, self._many) == (other._values, other._many)

    def __hash__(self) -> int:
        """Agree with `__eq__`."""
        return hash((self._values, self._many))

    def __or__(self, other: Secrets) -> Secrets:
        """Return both together."""
        if not other or self == other:
            return self
        if not self:
            return other
        return Secrets(self._values | other._values, many=[value for value, _ in (*self._many, *other._many)])

    def text(self, text: str, *, cut: bool = False) -> str:
        """Return `text` without them; `cut`: what a cut left of one at the beginning or the end goes as well."""
        found = [value for value, _ in self._many if value in text]
        pattern = _either([*self._forms, *found], "|") if found else self._text
        if pattern is None:
            return text
        clean = pattern.sub(REDACTED, text)
        return _without_edges(clean, self._forms, REDACTED) if cut else clean

    def data(self, data: bytes, *, cut: bool = False) -> bytes:
        """Return bytes without them, as `text` does."""
        found = [value for _, value in self._many if value in data]
        pattern = _either([*self._bytes_forms, *found], b"|") if found else self._bytes
        if pattern is None:
            return data
        clean = pattern.sub(REDACTED.encode(), data)
        return _without_edges(clean, self._bytes_forms, REDACTED.encode()) if cut else clean

    def value(self, value: float | str | bool | None) -> float | str | bool | None:  # noqa: FBT001 - a measured value
        """Return a measured value without them: a number that reads like one is one."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool) or not self:
            return value
        spelled = {str(value), f"{value:.0f}" if isinstance(value, float) else ""}
        return REDACTED if spelled & self._values or any(each in spelled for each, _ in self._many) else value


NO_SECRETS = Secrets()


class Vault:
    """All secrets that are in use in this process, for what is not bound to one board: the log. Thread-safe."""

    def __init__(self) -> None:
        self._kept: deque[Secrets] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def keep(self, secrets: Secrets) -> None:
        """Take these out from now on; the oldest go when there are too many."""
        if not secrets:
            return
        with self._lock:
            if secrets in self._kept:
                self._kept.remove(secrets)
            self._kept.append(secrets)

    def text(self, text: str) -> str:
        """Return `text` without any of them."""
        for secrets in self._all():
            text = secrets.text(text)
        return text

    def data(self, data: bytes) -> bytes:
        """Return bytes without any of them."""
        for secrets in self._all():
            data = secrets.data(data)
        return data

    def value(self, value: float | str | bool | None) -> float | str | bool | None:  # noqa: FBT001 - of an event
        """Return a value without any of them."""
        for secrets in self._all():
            value = secrets.value(value)
        return value

    def _all(self) -> tuple[Secrets, ...]:
        with self._lock:
            return tuple(self._kept)


def secrets_directory(configured: str) -> Path | None:
    """Return where secrets lie: the configured directory, else that of systemd's credentials; None where there is none."""
    named = configured or os.environ.get(CREDENTIALS_VARIABLE, "")
    return Path(named) if named else None


def read_secret(directory: Path | None, name: str) -> str:
    """Return the secret of this name, without the line end at its end; raises `SecretUnusable`, which says why."""
    if not SECRET_NAME.fullmatch(name):
        raise SecretUnusable(name, "is no name of a secret: letters, digits, . - and _")
    if directory is None:
        raise SecretUnusable(name, "has no place: set work.secrets, or LoadCredential= in the unit")
    try:
        with (directory / name).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            raw = file.read(4 * LONGEST + 3)
    except OSError as error:
        raise SecretUnusable(name, f"cannot be read ({error.strerror})") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise SecretUnusable(name, f"is open to everybody (mode {stat.S_IMODE(mode):04o}): chmod 0600 or 0640")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    text = text.removesuffix("\n").removesuffix("\r")
    problem = unfit(text)
    if problem:
        raise SecretUnusable(name, problem)
    return text


def unfit(secret: str) -> str:
    """Return why this cannot be a secret, in words that do not tell it; empty when it can."""
    if "\0" in secret:
        return "is no UTF-8 text"
    if not SHORTEST <= len(secret) <= LONGEST:
        return f"has {len(secret)} characters; {SHORTEST} to {LONGEST} can be kept out of the records"
    return ""


def readable_secrets(directory: Path | None) -> Iterator[str]:
    """Return every secret in the directory that this process can read, for what must not leave the machine."""
    try:
        names = sorted(file.name for file in directory.iterdir()) if directory is not None else []
    except OSError:
        return
    for name in names:
        try:
            yield read_secret(directory, name)
        except SecretUnusable:
            continue


def _forms(secret: str) -> Iterator[str]:
    """Every way in which a secret may be written down, that is worth looking for."""
    whole = {secret, " ".join(secret.splitlines())}
    # What one of its lines is, is as secret; a line of a few characters may be anything.
    lines = {line for line in secret.splitlines() if len(line) >= 2 * SHORTEST}
    for text in whole | lines:
        escaped = text.encode("unicode_escape").decode()
        yield from (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
        yield from (
            escaped,
            escaped.replace("'", "\\'"),
            quote(text),
            quote(text, safe=""),
            quote(text, safe="") + "%0A",
        )
        raw = text.encode()
        yield repr(raw)[2:-1]
        yield from (", ".join(map(str, raw)), ",".join(map(str, raw)))
        for between in ("", " ", ":", "-", "\\x", ", 0x", ","):
            spelled = between.join(f"{byte:02x}" for byte in raw)
            yield from (spelled, spelled.upper())
        yield from _base64_forms(raw)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """What of the base64 of any text around `raw` is the same whatever stands before and behind it."""
    for before in range(3):
        # Of the characters at both ends some bits belong to the neighbours.
        first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        encoded = base64.b64encode(b"\0" * before + raw + b"\0\0").decode()[first:last]
        if len(encoded) >= SHORTEST:
            yield from (encoded, encoded.replace("+", "-").replace("/", "_"))


def _either(forms: Sequence[AnyStr], between: AnyStr) -> re.Pattern[AnyStr]:
    """Return what finds any of them; the longest first, for one may be the beginning of another."""
    return re.compile(between.join(map(re.escape, sorted(forms, key=len, reverse=True))))


def _without_edges(text: AnyStr, forms: Sequence[AnyStr], mark: AnyStr) -> AnyStr:
    """Take out what begins `text` and ends a form, and what ends it and begins a form."""
    head = max((_overlap(form, text) for form in forms), default=0)
    text = mark + text[head:] if head else text
    tail = max((_overlap(form[::-1], text[::-1]) for form in forms), default=0)
    return text[:-tail] + mark if tail else text


def _overlap(form: AnyStr, text: AnyStr) -> int:
    """Return how many characters at the beginning of `text` are the end of `form`, from `LEAST_AT_EDGE` on; else 0."""
    for length in range(min(len(form) - 1, len(text)), LEAST_AT_EDGE - 1, -1):
        if text.startswith(form[-length:]):
            return length
    return 0
