"""Values that somebody assigned beforehand: a CSV file with a row for each board, read strictly.

A file that two people could read in two ways is refused as a whole, with the number of its line: a wrong number of fields, a
name or a board twice, text that is not UTF-8. No message repeats a field, because any column may be secret.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from station.errors import ConfigurationError
from station.model import chip_id_from_mac, format_chip_id
from station.secrets import unfit

MOST_BYTES = 16 << 20
LONGEST_VALUE = 1000
COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_SEPARATORS = ",;\t"
_MAC_DIGITS, _CHIP_ID_DIGITS = 12, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesTable:
    """What a CSV file says: its columns, and a value of each in every row."""

    file: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    """Where each row stands in the file, from 1."""

    def names(self, row: int) -> dict[str, str]:
        """Return column -> value of the row of this index."""
        return dict(zip(self.columns, self.rows[row], strict=True))

    def column(self, name: str) -> tuple[str, ...]:
        """Return one column, top down; raises `ConfigurationError` when there is none of this name."""
        if name not in self.columns:
            # What the first line holds instead is not repeated: where nobody named the columns, it is the first board's row.
            problem = f"none of its {len(self.columns)} columns is called {name!r}"
            raise _refused(self.file, problem, "write the names of the columns into its first line")
        at = self.columns.index(name)
        return tuple(row[at] for row in self.rows)

    def row_of_mac(self, mac: str) -> int | None:
        """Return the index of the row whose `mac` is this, None when none is; raises `ConfigurationError`."""
        return self._row_of("mac", _MAC_DIGITS, mac)

    def row_of_chip_id(self, mac: str) -> int | None:
        """Return the index of the row whose `chip_id` belongs to this MAC, None when none does."""
        return self._row_of("chip_id", _CHIP_ID_DIGITS, format_chip_id(chip_id_from_mac(mac)))

    def row_names(self, secret: Sequence[str]) -> tuple[str, ...]:
        """Return what every row is called on record: its value in the first column that is not secret.

        Raises `ConfigurationError` unless each row has a name of its own: by it the station sees that a row is still the
        one that a board was given.
        """
        public = [column for column in self.columns if column not in secret]
        if not public:
            raise _refused(
                self.file, "all of its columns are secret", "add a column with a name for each row, such as `label`"
            )
        names = self.column(public[0])
        self._require_unique(public[0], names)
        return names

    def check_secrets(self, secret: Sequence[str]) -> None:
        """Raise `ConfigurationError` unless each secret column is there and all of its values can be kept secret."""
        for column in secret:
            for line, value in zip(self.lines, self.column(column), strict=True):
                problem = unfit(value)
                if problem:
                    raise _refused(
                        self.file, f"line {line}: the secret {column} {problem}", "give this row a usable one"
                    )

    def _row_of(self, column: str, digits: int, wanted: str) -> int | None:
        keys = [self._key(column, digits, at, said) for at, said in enumerate(self.column(column))]
        self._require_unique(column, keys)
        found = _digits_of(wanted, digits)
        return keys.index(found) if found in keys else None

    def _key(self, column: str, digits: int, row: int, said: str) -> str:
        found = _digits_of(said, digits)
        if not found:
            raise _refused(self.file, f"line {self.lines[row]}: {column} is no {column}", f"write {digits} hex digits")
        return found

    def _require_unique(self, column: str, values: Sequence[str]) -> None:
        seen: dict[str, int] = {}
        for line, value in zip(self.lines, values, strict=True):
            if not value:
                raise _refused(self.file, f"line {line}: {column} is empty", "give every row one")
            if value in seen:
                raise _refused(
                    self.file, f"line {line}: {column} is that of line {seen[value]}", "give every row its own"
                )
            seen[value] = line


def load_values(path: Path) -> ValuesTable:
    """Return what the file says now, read again only when it was changed; raises `ConfigurationError`."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return _load(path, (found.st_mtime_ns, found.st_size, found.st_ino))


@lru_cache(maxsize=8)
def _load(path: Path, _changed: tuple[int, int, int]) -> ValuesTable:
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    return parse_values(raw, str(path))


def parse_values(raw: bytes, file: str) -> ValuesTable:
    """Return what the bytes of a CSV file say; a byte order mark, CRLF, and `;` or tabs between fields are understood.

    Raises `ConfigurationError`.
    """
    if len(raw) > MOST_BYTES:
        raise _refused(file, f"it has more than {MOST_BYTES >> 20} MiB", "split it by lot")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(file, f"not UTF-8 text (byte {error.start})", "save it as CSV UTF-8") from None
    if "\0" in text:
        raise _refused(file, "it holds a NUL byte", "save it as CSV UTF-8")
    lines = list(_fields(text, file))
    if not lines:
        raise _refused(file, "it is empty", "write the names of the columns into its first line")
    (_, columns), rows = lines[0], lines[1:]
    _check_columns(columns, file)
    for line, fields in rows:
        if len(fields) != len(columns):
            problem = f"line {line} has {len(fields)} fields, the first line {len(columns)}"
            raise _refused(file, problem, "give every row all fields, empty ones too")
        if max(map(len, fields)) > LONGEST_VALUE:
            raise _refused(file, f"line {line}: a field has more than {LONGEST_VALUE} characters", "shorten it")
    return ValuesTable(
        file=file,
        columns=columns,
        rows=tuple(fields for _, fields in rows),
        lines=tuple(line for line, _ in rows),
    )


def _fields(text: str, file: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number and the fields of every line that says anything."""
    first = text.partition("\n")[0]
    delimiter = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    try:
        for fields in reader:
            if any(fields):
                yield reader.line_num, tuple(fields)
    except csv.Error as error:
        raise _refused(file, f"line {reader.line_num}: {error}", "correct the quotes of that line") from None


def _check_columns(columns: Sequence[str], file: str) -> None:
    for at, column in enumerate(columns):
        if not COLUMN.fullmatch(column):
            raise _refused(file, f"column {at + 1} has no usable name", "a letter, then up to 39 letters, digits or _")
        if column in columns[:at]:
            raise _refused(
                file,
                f"column {at + 1} is called as column {columns.index(column) + 1} is",
                "give every column a name of its own",
            )


def _digits_of(said: str, digits: int) -> str:
    """Return a MAC or chip ID as plain lower-case hex digits, however it is written; empty when it is none."""
    plain = re.sub(r"[:\-. ]", "", said.strip().lower())
    if digits == _CHIP_ID_DIGITS:
        plain = plain.removeprefix("0x").zfill(digits)
    return plain if re.fullmatch(rf"[0-9a-f]{{{digits}}}", plain) else ""


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        file=str(path), problem=f"the table of values cannot be read ({error.strerror})", fix="put it into work.values"
    )


def _refused(file: str, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(file=file, problem=problem, fix=fix)
