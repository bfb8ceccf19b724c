"""A board gets all of its own data or none: numbers, rows of a table, secrets; what is missing ends the visit with its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.boarddata import (
    BoardDataSource,
    NoData,
    rows_pool,
    secrets_wanted,
    serial_text,
)
from station.errors import JobEnded
from station.model import Identity, Issued
from station.reasons import Reason
from station.recipe import FilesPlan, Recipe, SourceFile
from station.recipe.text import NetworkSection, SerialSection, ValuesSection
from station.secrets import REDACTED, Vault
from tests.unit.job_rig import recipe_for

BOARD = Identity(mac="5c:cf:7f:dd:c1:42", chip_id=0xDDC142, otp_words=None)
OF_EVERY_BOARD = {"mac": "5c:cf:7f:dd:c1:42", "mac_plain": "5ccf7fddc142", "chip_id": "0x00ddc142"}


@dataclass
class Pools:
    """Numbers in memory."""

    left: dict[str, list[int]] = field(default_factory=dict)
    given: dict[tuple[str, str], Issued] = field(default_factory=dict)

    def reserve_number(self, pool: str, mac: str, job_id: str, labels: tuple[str, ...] = ()) -> Issued | None:
        """The one it has, else the next."""
        assert job_id == "job-1"
        if (pool, mac) not in self.given:
            free = self.left.get(pool, [])
            if not free or (labels and free[0] > len(labels)):
                return None
            number = free.pop(0)
            self.given[pool, mac] = Issued(number=number, label=labels[number - 1] if labels else "")
        return self.given[pool, mac]


@dataclass
class Rig:
    """A source with its directories, and a recipe that can be changed."""

    directory: Path
    recipe: Recipe = field(default_factory=recipe_for)
    pools: Pools = field(default_factory=Pools)
    vault: Vault = field(default_factory=Vault)

    def wants(self, **sections: object) -> Rig:
        """Change the recipe."""
        self.recipe = msgspec.structs.replace(self.recipe, **sections)
        return self

    def table(self, text: str) -> None:
        """The file of values."""
        (self.directory / "t.csv").write_text(text)

    def secret(self, name: str, value: str) -> None:
        """A secret in its file."""
        (self.directory / name).write_text(value + "\n")
        (self.directory / name).chmod(0o600)

    def source(self) -> BoardDataSource:
        """The source."""
        return BoardDataSource(numbers=self.pools, values=self.directory, secrets=self.directory, vault=self.vault)

    def data(self):
        """What this board gets."""
        return self.source().data_for(self.recipe, BOARD, "job-1")

    def ended(self) -> JobEnded:
        """Why it gets nothing."""
        with pytest.raises(JobEnded) as ended:
            self.data()
        assert self.pools.given == {} or self.recipe.values.by == "row"
        return ended.value


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A rig with nothing in it."""
    return Rig(tmp_path)


def test_every_board_has_its_mac_and_chip_id(rig: Rig) -> None:
    """A recipe that asks for nothing gets that, and nothing goes on record."""
    data = rig.data()
    assert dict(data.names) == OF_EVERY_BOARD
    assert (data.public, bool(data.secrets)) == ((), False)
    assert dict(NoData().data_for(rig.recipe, BOARD, "job-1").names) == OF_EVERY_BOARD


def test_a_serial_number_is_written_as_the_recipe_wants_it(rig: Rig) -> None:
    """It is a name for templates and goes on record; when none is left the visit ends with the name of the pool."""
    rig.wants(serial=SerialSection(pool="sensors", format="SN{number:06d}"))
    rig.pools.left["sensors"] = [17]
    data = rig.data()
    assert data.names["serial"] == "SN000017"
    assert data.public == (("serial", "SN000017"),)
    rig.pools.given.clear()
    ended = rig.ended()
    assert (ended.reason, ended.detail) == (Reason.NUMBERS_USED_UP, "sensors")


@pytest.mark.parametrize("by", ["mac", "chip_id"])
def test_a_row_is_found_by_mac_or_chip_id(rig: Rig, by: Literal["mac", "chip_id"]) -> None:
    """Its columns are names; those that are not secret go on record, those that are never do."""
    rig.wants(values=ValuesSection(csv="t.csv", by=by, secret=("token",)))
    rig.table(
        f"{by},place,token\n{OF_EVERY_BOARD[by]},Küche,very-secret-1\n{'00' * (6 if by == 'mac' else 4)},Bad,other-secret\n"
    )
    data = rig.data()
    assert data.names["values.place"] == "Küche"
    assert data.names["values.token"] == "very-secret-1"
    assert data.public == ((by, OF_EVERY_BOARD[by]), ("place", "Küche"))
    assert data.secrets.text("its very-secret-1") == f"its {REDACTED}"
    assert rig.vault.text("very-secret-1") == REDACTED
    assert "very-secret-1" not in repr(data)


def test_no_row_no_file_or_a_bad_file_end_the_visit(rig: Rig) -> None:
    """Each says what is wrong with which file, before any number is taken."""
    rig.pools.left["sensors"] = [1]
    rig.wants(values=ValuesSection(csv="t.csv", secret=("token",)), serial=SerialSection(pool="sensors"))
    assert "t.csv" in rig.ended().detail
    rig.table("mac,token\n18:fe:34:00:00:01,long-enough\n")
    ended = rig.ended()
    assert (ended.reason, ended.detail) == (Reason.NO_VALUES, "t.csv has no row with this mac")
    rig.table("mac,token\n5c:cf:7f:dd:c1:42,abc\n")
    assert "line 2: the secret token has 3 characters" in rig.ended().detail
    nowhere = BoardDataSource(numbers=rig.pools, values=None, secrets=None, vault=rig.vault)
    with pytest.raises(JobEnded) as missing:
        nowhere.data_for(rig.recipe, BOARD, "job-1")
    assert "work.values names no directory" in missing.value.detail


def test_a_column_that_no_file_can_be_filled_from_ends_the_visit(rig: Rig) -> None:
    """A file asks for a column that the table has not: said before anything is written and before a number is taken."""
    rig.pools.left["sensors"] = [1]
    files = files_with(b"place = '${values.place}'")
    rig.wants(values=ValuesSection(csv="t.csv"), serial=SerialSection(pool="sensors"), files=files)
    rig.table("mac,palce\n5c:cf:7f:dd:c1:42,Kitchen\n")
    ended = rig.ended()
    assert ended.reason is Reason.NO_VALUES
    assert "none of its 2 columns is called 'place'" in ended.detail


def test_rows_are_handed_out_by_the_engine_of_the_numbers(rig: Rig) -> None:
    """The next free row is this board's for ever; a row that became another one by an edit is refused."""
    rig.wants(values=ValuesSection(csv="t.csv", by="row", secret=("key",)))
    rig.table("label,key\nA,first-secret\nB,second-secret\n")
    rig.pools.left[rows_pool("t.csv")] = [2, 3]
    assert rig.data().names["values.label"] == "B"
    rig.table("label,key\nA,first-secret\nB,second-secret\nC,third-secret\n")
    assert rig.data().names["values.key"] == "second-secret"
    rig.table("label,key\nA,first-secret\nNEW,inserted-secret\nB,second-secret\n")
    ended = rig.ended()
    assert ended.reason is Reason.NO_VALUES
    assert "row 2 is not the one any more that this board was given; append rows only" in ended.detail
    rig.table("label,key\nA,first-secret\n")
    assert "row 2 is not the one any more" in rig.ended().detail
    rig.pools.given.clear()
    ended = rig.ended()
    assert (ended.reason, ended.detail) == (Reason.NUMBERS_USED_UP, "rows of t.csv (pool rows/t.csv)")


def files_with(content: bytes, *, fill_in: bool = True) -> FilesPlan:
    """A tree of one file."""
    return FilesPlan(files=(SourceFile(path="config.py", content=content, fill_in=fill_in),))


def test_only_the_secrets_that_the_recipe_names_are_read(rig: Rig) -> None:
    """Those in its files and those of its network; others may be missing."""
    rig.wants(files=files_with(b"KEY = ${secret.cloud|quoted}"), network=NetworkSection(ssid="x", key_secret="wifi"))  # noqa: S106 - its name
    rig.secret("cloud", "cloud-token-9")
    rig.secret("unused", "never-asked-for")
    assert secrets_wanted(rig.recipe) == {"cloud", "wifi"}
    ended = rig.ended()
    assert ended.reason is Reason.SECRET_MISSING
    assert ended.detail == "wifi cannot be read (No such file or directory)"
    rig.secret("wifi", "wifi-password")
    data = rig.data()
    assert {name for name in data.names if name.startswith("secret.")} == {"secret.cloud", "secret.wifi"}
    assert data.names["secret.wifi"] == "wifi-password"
    assert rig.vault.text("cloud-token-9 wifi-password never-asked-for") == f"{REDACTED} {REDACTED} never-asked-for"
    assert data.public == ()
    rig.wants(files=files_with(b"KEY = ${secret.cloud|quoted}", fill_in=False))
    assert secrets_wanted(rig.recipe) == {"wifi"}


def test_all_secrets_around_a_recipe_are_known_before_the_board_is(rig: Rig) -> None:
    """A board of yesterday says its key at power-up: it is taken out although nobody knows yet whose it was."""
    rig.wants(
        files=files_with(b"${secret.cloud}${secret.missing}"),
        values=ValuesSection(csv="t.csv", secret=("token", "nowhere")),
    )
    rig.secret("cloud", "cloud-token-9")
    rig.table("mac,token\n18:fe:34:00:00:01,another-boards-token\n")
    secrets = rig.source().secrets_around(rig.wants(values=ValuesSection(csv="t.csv", secret=("token",))).recipe)
    assert secrets.data(b"cloud-token-9 another-boards-token") == f"{REDACTED} {REDACTED}".encode()
    (rig.directory / "t.csv").unlink()
    assert rig.source().secrets_around(rig.recipe).text("cloud-token-9") == REDACTED


@given(
    form=st.sampled_from(["{number}", "SN{number:06d}", "{number:04X}"]),
    number=st.integers(0, 10**15),
)
def test_every_number_is_written_as_itself(form: str, number: int) -> None:
    """Two numbers are never written alike, however many digits they have."""
    assert serial_text(form, number) != serial_text(form, number + 1)
