"""A backup's file: what was put in comes out, or nothing does; what a hostile archive asks for is never done."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.adapters.archive import (
    MANIFEST,
    RECORDS,
    Kind,
    Manifest,
    Source,
    Unpacked,
    backup_name,
    backups_in,
    newest_backup,
    pack,
    source_of,
    unpack,
)
from station.adapters.records import Database, copy_records, examine
from station.errors import BackupFailed
from tests.adapters.records.samples import PASSED, make_lot, record, url_of

NOW = datetime(2026, 11, 22, 3, 30, tzinfo=UTC)
SLOTS = b'{"A1": {"place": "pci-0:2.3"}}'


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Records with one job, and a slot map."""
    directory = tmp_path_factory.mktemp("sources")
    with Database.open(url_of(directory / "station.db")) as database:
        record(database, "job-1", make_lot(database), PASSED)
        copy_records(directory / "station.db", directory / "copy")
    (directory / "slots.json").write_bytes(SLOTS)
    return [
        source_of(Kind.RECORDS, RECORDS, "station.db", directory / "copy"),
        source_of(Kind.STATE, "state/slots.json", "slots.json", directory / "slots.json"),
    ]


def manifest_of(sources: list[Source]) -> Manifest:
    """The manifest that fits."""
    contents = examine(sources[0].file)
    return Manifest(
        station_id="bench-1",
        station_version="0.1.0",
        schema=contents.revision,
        made_at=NOW.isoformat(),
        host="here",
        rows=contents.rows,
        members=tuple(source.member for source in sources),
    )


@pytest.fixture(scope="module")
def good(sources: list[Source], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup that holds."""
    file = tmp_path_factory.mktemp("good") / "backup.tar.gz"
    pack(file, manifest_of(sources), sources)
    return file


def unpacked(file: Path) -> tuple[Unpacked, dict[str, bytes]]:
    """Unpack into a directory of its own; what is in it afterwards must be numbered files and nothing else."""
    with tempfile.TemporaryDirectory() as directory:
        into = Path(directory) / "into"
        into.mkdir()
        try:
            found = unpack(file, into)
            return found, {name: path.read_bytes() for name, path in found.files.items()}
        finally:
            assert all(path.parent == into and path.name.isdecimal() for path in into.rglob("*"))
            assert list(Path(directory).iterdir()) == [into]


def test_what_was_put_in_comes_out(good: Path, sources: list[Source]) -> None:
    """Every byte of every member, the manifest, and what the records in it hold."""
    found, content = unpacked(good)
    assert found.manifest == manifest_of(sources)
    assert content == {source.member.name: source.file.read_bytes() for source in sources}
    assert found.contents is not None
    assert (found.contents.jobs, found.contents.passes) == (1, 1)
    assert good.stat().st_mode & 0o777 == 0o640


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_backup_is_refused_or_is_the_same(good: Path, data: st.DataObject) -> None:
    """Whatever bit flips or is cut off: either what comes out is what was put in, or nothing is believed."""
    raw = bytearray(good.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        del raw[at:]
    else:
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "damaged.tar.gz"
        file.write_bytes(raw)
        try:
            found, content = unpacked(file)
        except BackupFailed as error:
            said = str(error)
        else:
            said = ""
            assert content == unpacked(good)[1]
            assert found.contents == unpacked(good)[0].contents
        assert not said or (str(file) in said and "Fix: " in said)


@pytest.mark.parametrize("length", range(20))
def test_a_backup_that_is_cut_off_in_its_first_bytes_is_refused(good: Path, tmp_path: Path, length: int) -> None:
    """A disk that was full at once, or a stick that was pulled: said like any other damage."""
    file = tmp_path / "cut.tar.gz"
    file.write_bytes(good.read_bytes()[:length])
    with pytest.raises(BackupFailed, match="damaged, or no backup"):
        unpacked(file)


def rewritten(
    good: Path,
    file: Path,
    *,
    change: Callable[[dict[str, object]], object] = lambda _manifest: None,
    more: tuple[tuple[tarfile.TarInfo, bytes], ...] = (),
    without: tuple[str, ...] = (),
    replaced: dict[str, bytes] | None = None,
) -> Path:
    """Write another archive from a good one, as who wants to do harm would."""
    with tarfile.open(good) as original, tarfile.open(file, "w:gz") as archive:
        for info in original:
            opened = original.extractfile(info)
            content = opened.read() if opened else b""
            if info.name == MANIFEST:
                manifest = msgspec.json.decode(content)
                change(manifest)
                content = msgspec.json.encode(manifest)
            content = (replaced or {}).get(info.name, content)
            if info.name not in without:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        for info, content in more:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def link(name: str, target: str) -> tarfile.TarInfo:
    """A symbolic link as a member."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_members_that_the_manifest_does_not_name_are_refused(good: Path, tmp_path: Path) -> None:
    """A path that climbs out, an absolute one, a link, a member twice: not one is written anywhere."""
    target = tmp_path / "target"
    for info in (
        tarfile.TarInfo("../climbed"),
        tarfile.TarInfo(str(target)),
        link("state/link.json", str(target)),
        tarfile.TarInfo("state/slots.json"),
    ):
        file = rewritten(good, tmp_path / "hostile.tar.gz", more=((info, b"x" if not info.linkname else b""),))
        with pytest.raises(BackupFailed, match="not in its manifest"):
            unpacked(file)
    assert not target.exists()


def test_a_link_in_the_place_of_a_member_is_not_followed(good: Path, tmp_path: Path) -> None:
    """Only plain files are members."""
    file = rewritten(
        good,
        tmp_path / "hostile.tar.gz",
        without=("state/slots.json",),
        more=((link("state/slots.json", "/etc/hostname"), b""),),
    )
    with pytest.raises(BackupFailed, match=r"slots\.json"):
        unpacked(file)


def test_a_climbing_name_in_the_manifest_becomes_a_number(good: Path, tmp_path: Path) -> None:
    """Even a name that the manifest itself gives is only compared, never a path."""

    def climb(manifest: dict[str, object]) -> None:
        manifest["members"][1]["name"] = "../../climbed"  # type: ignore[index]

    file = rewritten(
        good,
        tmp_path / "hostile.tar.gz",
        change=climb,
        without=("state/slots.json",),
        more=((tarfile.TarInfo("../../climbed"), SLOTS),),
    )
    _, content = unpacked(file)
    assert content["../../climbed"] == SLOTS


def test_more_bytes_than_the_manifest_says_are_not_written(good: Path, tmp_path: Path) -> None:
    """A member that is larger than it says ends there: it can fill no disk."""
    file = rewritten(good, tmp_path / "hostile.tar.gz", replaced={"state/slots.json": b"\0" * (8 << 20)})
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(BackupFailed, match="not what was put in"):
        unpack(file, into)
    assert sum(path.stat().st_size for path in into.iterdir()) < 4 << 20


def test_rows_that_were_not_counted_are_noticed(good: Path, tmp_path: Path) -> None:
    """A whole database with other rows than the manifest counted is not what was backed up."""

    def miscount(manifest: dict[str, object]) -> None:
        manifest["rows"]["job"] = 2  # type: ignore[index]

    with pytest.raises(BackupFailed, match="rows that were counted"):
        unpacked(rewritten(good, tmp_path / "other.tar.gz", change=miscount))


def test_what_is_missing_or_foreign_is_said(good: Path, tmp_path: Path) -> None:
    """A member left out, another format, a tar of somebody else, an empty file: each has its sentence."""
    with pytest.raises(BackupFailed, match=r"slots\.json is not in it"):
        unpacked(rewritten(good, tmp_path / "a", without=("state/slots.json",)))
    with pytest.raises(BackupFailed, match=r"made by station 0\.1\.0; this one reads 1"):
        unpacked(rewritten(good, tmp_path / "b", change=lambda manifest: manifest.update(format=2)))
    with pytest.raises(BackupFailed, match="no manifest"):
        unpacked(rewritten(good, tmp_path / "c", without=(MANIFEST,)))
    with pytest.raises(BackupFailed, match="manifest cannot be read"):
        unpacked(rewritten(good, tmp_path / "d", change=lambda manifest: manifest.pop("members")))
    (tmp_path / "e").write_bytes(b"")
    with pytest.raises(BackupFailed, match="damaged, or no backup"):
        unpacked(tmp_path / "e")


def test_names_say_station_time_and_version(tmp_path: Path) -> None:
    """A name tells all that is needed to find the newest, whatever characters the station's name has."""
    names = [
        backup_name("Halle 3/links", NOW, "0.1.0"),
        backup_name("bench-1", NOW - timedelta(hours=1), "0.1.0", before="0.2.0"),
        backup_name("bench-1", NOW - timedelta(hours=2), "0.1.0-rc1+dfsg~2"),
    ]
    assert names[1] == "station-bench-1-20261122T023000Z-v0.1.0-before-0.2.0.tar.gz"
    for name in (*names, ".backup-x", "station-bench-1.tar.gz", f".{names[0]}", f"{names[0]}.draft"):
        (tmp_path / name).touch()
    assert [backup.path.name for backup in backups_in(tmp_path)] == names
    found = newest_backup(tmp_path, "bench-1")
    assert found is not None
    assert (found.path.name, found.made_at, found.version, found.before) == (
        names[1],
        NOW - timedelta(hours=1),
        "0.1.0",
        "0.2.0",
    )
    assert newest_backup(tmp_path, "bench-2") is None
    assert newest_backup(tmp_path / "not there") is None
