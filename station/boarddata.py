"""A board's own data: its serial number, its row of values, its secrets, under the names that templates use.

`BoardDataSource` is asked once per visit, after the board was admitted and before its job row: what is missing then ends the
visit as a finding, with nothing written. It hands out a number only through the records, which bind it to the MAC for ever.
What is secret is in `names` and in `secrets` and nowhere else; `public` is what goes on record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from station.errors import ConfigurationError, JobEnded, SecretUnusable
from station.model import Identity, Issued, format_chip_id
from station.reasons import Reason
from station.recipe import Recipe
from station.recipe.template import names_in
from station.secrets import NO_SECRETS, Secrets, Vault, read_secret
from station.values import ValuesTable, load_values

NOTHING: Mapping[str, str] = MappingProxyType({})
SERIAL = "serial"
"""What the serial number is called on record."""
_SECRET, _VALUES = "secret.", "values."
_NO_MAC = "00:00:00:00:00:00"
"""Looked for only to have every row of a table read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardData:
    """What belongs to one board and to no other."""

    names: Mapping[str, str] = field(default_factory=lambda: NOTHING, repr=False)
    """Name in templates -> text: `mac`, `mac_plain`, `chip_id`, `serial`, `values.COLUMN`, `secret.NAME`."""
    secrets: Secrets = NO_SECRETS
    """To take out of everything that is kept or shown of this visit."""
    public: tuple[tuple[str, str], ...] = ()
    """Name and value of what goes on record: the serial number first, then the columns that are not secret."""


NO_DATA = BoardData()


class Numbers(Protocol):
    """Who hands out numbers: the records. Called from slots' threads."""

    def reserve_number(self, pool: str, mac: str, job_id: str, labels: tuple[str, ...] = ()) -> Issued | None:
        """Return this MAC's number in the pool: the one it has, else a new one, durable; None when none is left.

        With `labels`, number 1 is the first of them; a number beyond them is not handed out. Raises `RecordsUnwritable`.
        """


class DataSource(Protocol):
    """Where a board's own data comes from. Called from slots' threads."""

    def data_for(self, recipe: Recipe, identity: Identity, job_id: str) -> BoardData:
        """Return all that the recipe asks for; raises `JobEnded` when something is missing, and `RecordsUnwritable`."""

    def secrets_around(self, recipe: Recipe) -> Secrets:
        """Return all secrets that the recipe can give to any board, as far as they can be read; raises nothing.

        A board may say what it was given in an earlier life, before anybody knows which one it is.
        """


class NoData:
    """A source for stations without any: what every board has, and nothing else."""

    def data_for(self, recipe: Recipe, identity: Identity, job_id: str) -> BoardData:
        """Return MAC and chip ID."""
        del recipe, job_id
        return BoardData(names=_of_every_board(identity))

    def secrets_around(self, recipe: Recipe) -> Secrets:
        """There are none."""
        del recipe
        return NO_SECRETS


class BoardDataSource:
    """The station's own source: its records, its directory of values, its directory of secrets."""

    def __init__(self, *, numbers: Numbers, values: Path | None, secrets: Path | None, vault: Vault) -> None:
        self._numbers, self._values, self._secrets, self._vault = numbers, values, secrets, vault

    def data_for(self, recipe: Recipe, identity: Identity, job_id: str) -> BoardData:
        """Return all that the recipe asks for; the number comes last, when nothing else can be missing any more."""
        names = _of_every_board(identity)
        kept = self._read_secrets(secrets_wanted(recipe))
        names |= {f"{_SECRET}{name}": value for name, value in kept.items()}
        # The log knows them before anybody can say them.
        self._vault.keep(Secrets(kept.values()))
        public: list[tuple[str, str]] = []
        hidden: list[str] = []
        if recipe.values.csv:
            row = self._row(recipe, identity.mac, job_id)
            names |= {f"{_VALUES}{column}": value for column, value in row.items()}
            hidden = [value for column, value in row.items() if column in recipe.values.secret]
            public = [(column, value) for column, value in row.items() if column not in recipe.values.secret]
        secrets = Secrets([*kept.values(), *hidden])
        self._vault.keep(secrets)
        if recipe.serial.pool:
            issued = self._numbers.reserve_number(recipe.serial.pool, identity.mac, job_id)
            if issued is None:
                raise JobEnded(Reason.NUMBERS_USED_UP, recipe.serial.pool)
            names[SERIAL] = serial_text(recipe.serial.format, issued.number)
            public.insert(0, (SERIAL, names[SERIAL]))
        return BoardData(names=MappingProxyType(names), secrets=secrets, public=tuple(public))

    def secrets_around(self, recipe: Recipe) -> Secrets:
        """Return the secrets of the recipe, and every value in a secret column of its table."""
        kept = []
        for name in secrets_wanted(recipe):
            with suppress(SecretUnusable):
                kept.append(read_secret(self._secrets, name))
        many: list[str] = []
        if recipe.values.secret and recipe.values.csv and self._values is not None:
            with suppress(ConfigurationError):
                table = load_values(self._values / recipe.values.csv)
                for column in recipe.values.secret:
                    many += table.column(column)
        secrets = Secrets(kept, many=many)
        self._vault.keep(secrets)
        return secrets

    def _read_secrets(self, wanted: Iterable[str]) -> dict[str, str]:
        try:
            return {name: read_secret(self._secrets, name) for name in sorted(wanted)}
        except SecretUnusable as error:
            raise JobEnded(Reason.SECRET_MISSING, str(error)) from None

    def _row(self, recipe: Recipe, mac: str, job_id: str) -> dict[str, str]:
        """Return column -> value of the row that is this board's."""
        section = recipe.values
        if self._values is None:
            raise JobEnded(Reason.NO_VALUES, f"{section.csv}: work.values names no directory")
        try:
            table = load_values(self._values / section.csv)
            _check_columns(table, recipe)
            match section.by:
                case "mac":
                    row = table.row_of_mac(mac)
                case "chip_id":
                    row = table.row_of_chip_id(mac)
                case "row":
                    row = self._next_row(table, section.csv, section.secret, mac, job_id)
        except ConfigurationError as error:
            raise JobEnded(Reason.NO_VALUES, str(error)) from None
        if row is None:
            raise JobEnded(Reason.NO_VALUES, f"{section.csv} has no row with this {section.by}")
        return table.names(row)

    def _next_row(self, table: ValuesTable, csv: str, secret: tuple[str, ...], mac: str, job_id: str) -> int:
        labels = table.row_names(secret)
        issued = self._numbers.reserve_number(rows_pool(csv), mac, job_id, labels)
        if issued is None:
            raise JobEnded(Reason.NUMBERS_USED_UP, f"rows of {csv} (pool {rows_pool(csv)})")
        if issued.number > len(labels) or labels[issued.number - 1] != issued.label:
            problem = f"row {issued.number} is not the one any more that this board was given"
            raise JobEnded(Reason.NO_VALUES, f"{csv}: {problem}; append rows only")
        return issued.number - 1


def check_values(table: ValuesTable, recipe: Recipe) -> None:
    """Raise `ConfigurationError` for what would end the visit of some board, whichever it is."""
    _check_columns(table, recipe)
    match recipe.values.by:
        case "mac":
            table.row_of_mac(_NO_MAC)
        case "chip_id":
            table.row_of_chip_id(_NO_MAC)
        case "row":
            table.row_names(recipe.values.secret)


def _check_columns(table: ValuesTable, recipe: Recipe) -> None:
    table.check_secrets(recipe.values.secret)
    for column in sorted(columns_wanted(recipe)):
        table.column(column)


def rows_pool(csv: str) -> str:
    """Return the name of the pool whose numbers are the rows of a table."""
    return f"rows/{csv}"


def serial_text(form: str, number: int) -> str:
    """Return a number as the recipe writes it; `form` was found good when the recipe was loaded."""
    return form.format(number=number)


def secrets_wanted(recipe: Recipe) -> set[str]:
    """Return the names of the secrets that this recipe needs: those of its network, and those in its files."""
    return {recipe.network.key_secret, recipe.network.webrepl_secret} - {""} | _asked_for(recipe, _SECRET)


def columns_wanted(recipe: Recipe) -> set[str]:
    """Return the columns of the table that the recipe's files ask for."""
    return _asked_for(recipe, _VALUES)


def _asked_for(recipe: Recipe, kind: str) -> set[str]:
    named = {name for file in recipe.files.files if file.fill_in for name in names_in(file.content)}
    return {name.removeprefix(kind) for name in named if name.startswith(kind)}


def _of_every_board(identity: Identity) -> dict[str, str]:
    mac = identity.mac
    return {"mac": mac, "mac_plain": mac.replace(":", ""), "chip_id": format_chip_id(identity.chip_id)}
