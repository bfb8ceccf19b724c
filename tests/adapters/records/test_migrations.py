"""The schema: migrations and tables say the same, and a file is upgraded whole, refused, or left alone."""

from __future__ import annotations

import io
import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from station.adapters.records import Database, check, head, knows, make_engine, upgrade
from station.adapters.records import migrate as migrate_module
from station.adapters.records.schema import metadata
from station.errors import ConfigurationError, RecordsUnwritable
from station.model import Outcome
from tests.adapters.records.old_records import OLD_MAC, populated_at_0001
from tests.adapters.records.samples import PASSED, Fault, make_lot, record, rows_of, url_of

NEXT = '''
"""A batch change of a table that others refer to."""
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade():
    with op.batch_alter_table("job") as batch:
        batch.add_column(sa.Column("colour", sa.Text(), nullable=False, server_default="none"))
        batch.drop_constraint(op.f("ck_job_pass_has_no_reason"), type_="check")
{more}
'''


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A database of today with one job."""
    file = tmp_path / "station.db"
    with Database.open(url_of(file)) as database:
        record(database, "job-1", make_lot(database), PASSED)
    return file


def newer_station(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: str = "") -> None:
    """Make the station one with another migration."""
    migrations = tmp_path / "migrations"
    shutil.copytree(migrate_module.migrations_dir(), migrations)
    text = NEXT.replace("{more}", more).replace("{head}", head())
    (migrations / "versions" / "9999_colour.py").write_text(text)
    monkeypatch.setattr(migrate_module, "migrations_dir", lambda: migrations)


def test_the_migrations_make_exactly_the_tables_the_station_uses(filled: Path) -> None:
    """Nothing is left to generate: tables, columns, types, keys and indexes agree."""
    engine = make_engine(url_of(filled), writes=False)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_check_constraints_agree_and_every_constraint_has_a_name(filled: Path, tmp_path: Path) -> None:
    """What comparison does not see: check constraints are the same text, and batch mode can drop any constraint by name."""
    made = make_engine(url_of(tmp_path / "made.db"), writes=True)
    with made.begin() as connection:
        metadata.create_all(connection)
    migrated = make_engine(url_of(filled), writes=False)
    ours, theirs = inspect(made), inspect(migrated)
    for table in metadata.tables:
        checks = [
            sorted((c["name"], c["sqltext"]) for c in each.get_check_constraints(table)) for each in (ours, theirs)
        ]
        assert checks[0] == checks[1]
        names = [constraint["name"] for constraint in theirs.get_foreign_keys(table)]
        names += [constraint["name"] for constraint in theirs.get_unique_constraints(table)]
        names += [theirs.get_pk_constraint(table)["name"], *(name for name, _ in checks[1])]
        assert all(names), table
    made.dispose()
    migrated.dispose()


def test_the_schema_is_portable_to_postgresql() -> None:
    """Every table and index compiles for PostgreSQL, with times in a zone."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        ddl = str(CreateTable(table).compile(dialect=dialect))
        assert "DATETIME" not in ddl
        assert ("_at " in ddl) == ("TIMESTAMP WITH TIME ZONE" in ddl)
        for index in table.indexes:
            assert str(CreateIndex(index).compile(dialect=dialect)).startswith("CREATE INDEX ix_")


def test_the_migrations_can_be_run_on_postgresql() -> None:
    """Every migration in order is SQL that PostgreSQL has: a new column is added in place, and nothing is copied."""
    said = io.StringIO()
    context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True, "output_buffer": said})
    scripts = list(ScriptDirectory.from_config(migrate_module._config()).walk_revisions())
    with Operations.context(context):
        for script in reversed(scripts):
            script.module.upgrade()
    sql = said.getvalue()
    assert "ALTER TABLE visit ADD COLUMN mac TEXT DEFAULT '' NOT NULL" in sql
    assert "CREATE TABLE board_event" in sql
    assert "CREATE INDEX ix_job_state ON job (state)" in sql
    assert "DATETIME" not in sql
    assert "_alembic_tmp" not in sql


def test_the_line_of_migrations_is_read_as_alembic_reads_it(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Head, known revisions and a file's own revision are what Alembic says of them, now and after the next migration."""
    today = max(file.name[:4] for file in (migrate_module.migrations_dir() / "versions").glob("0*.py"))
    for newest in (today, "9999"):
        scripts = ScriptDirectory.from_config(migrate_module._config())
        assert head() == scripts.get_current_head() == newest
        assert migrate_module._line_of_revisions() == {
            script.revision: script.down_revision for script in scripts.walk_revisions()
        }
        engine = make_engine(url_of(filled), writes=False)
        with engine.connect() as connection:
            assert MigrationContext.configure(connection).get_current_revision() == newest
            assert migrate_module.schema_state(connection) is migrate_module.SchemaState.CURRENT
        engine.dispose()
        if newest == today:
            newer_station(monkeypatch, tmp_path)
            upgrade(url_of(filled))
    assert knows("0001")
    assert not knows("9998")


def test_a_new_migration_is_made_as_the_station_reads_it(tmp_path: Path) -> None:
    """What `alembic revision` writes from our template is the next of the line without a touch of the hand."""
    migrations = tmp_path / "migrations"
    shutil.copytree(migrate_module.migrations_dir(), migrations)
    config = Config(migrations / "alembic.ini", stdout=io.StringIO())
    command.revision(config, "colour", rev_id="9999")
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(migrate_module, "migrations_dir", lambda: migrations)
        assert head() == "9999"


def test_records_of_the_first_schema_are_refused_with_the_very_command(tmp_path: Path) -> None:
    """A station does not start on 0001, names the command with this file's URL, and leaves the file as it was."""
    file = populated_at_0001(tmp_path / "the records.db")
    before = rows_of(file)
    command_line = rf"station db upgrade --db 'sqlite:///{file}'$"
    for refused in (lambda: Database.open(url_of(file)), lambda: Database.open(url_of(file), exclusive=True)):
        with pytest.raises(ConfigurationError, match=rf"made by an older station\. Fix: {command_line}"):
            refused()
    assert check(url_of(file))[0].endswith(f"station db upgrade --db 'sqlite:///{file}'")
    assert rows_of(file) == before


def test_records_of_the_first_schema_are_taken_to_this_one_without_losing_a_row(tmp_path: Path) -> None:
    """Every row of 0001 is there after the upgrade as it was; visits got an empty MAC; and the station works on it."""
    file = populated_at_0001(tmp_path / "station.db")
    before = rows_of(file)
    assert all(before[table] for table in before), "every table of 0001 has a row"
    assert upgrade(url_of(file)) == head()
    after = rows_of(file)
    assert set(after) - set(before) == set(metadata.tables) - set(before)
    assert [row[-1] for row in after["visit"]] == ["", ""]
    assert [row[:-1] for row in after["visit"]] == before["visit"]
    for table in set(before) - {"visit", "alembic_version"}:
        assert after[table] == before[table], table
    assert check(url_of(file)) == []
    with Database.open(url_of(file), exclusive=True) as database:
        known = database.known_board(OLD_MAC)
        assert known is not None
        assert [earlier.job_id for earlier in known.passes] == ["old-1"]
        (waiting,) = database.pending()
        assert (waiting.id, waiting.lot.product, waiting.measurements[0].value) == ("old-2", "blink", 5)
        record(database, "new-1", make_lot(database), PASSED)
        assert [job.outcome for job in database.jobs(1)] == [Outcome.PASS]


def test_upgrade_makes_a_new_file_durable_and_again_changes_nothing(tmp_path: Path) -> None:
    """The file is WAL and at the newest revision; a second upgrade leaves every row as it is."""
    file = tmp_path / "station.db"
    assert upgrade(url_of(file)) == head()
    before = rows_of(file)
    assert upgrade(url_of(file)) == head()
    assert rows_of(file) == before
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert check(url_of(file)) == []


def test_writing_connections_are_durable_and_keep_references(tmp_path: Path) -> None:
    """`synchronous` is FULL, foreign keys hold, and a lock is waited for; a reading connection cannot write."""
    upgrade(url_of(tmp_path / "station.db"))
    writer = make_engine(url_of(tmp_path / "station.db"), writes=True)
    reader = make_engine(url_of(tmp_path / "station.db"), writes=False)
    with writer.connect() as connection:
        found = {
            pragma: connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
            for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    with reader.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("INSERT INTO heartbeat VALUES ('x', '2025-11-22')")
    writer.dispose()
    reader.dispose()


def test_an_older_file_is_refused_with_the_command_and_upgraded_by_it(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The station does not start on an older schema; `station db upgrade` keeps every row and reference, then it starts."""
    before = rows_of(filled)
    newer_station(monkeypatch, tmp_path)
    with pytest.raises(ConfigurationError, match=r"older station\. Fix: station db upgrade"):
        Database.open(url_of(filled))
    assert any("older station" in problem for problem in check(url_of(filled)))
    assert upgrade(url_of(filled)) == "9999"
    after = rows_of(filled)
    assert [row[:-1] for row in after["job"]] == before["job"]
    assert after["job"][0][-1] == "none"
    assert {t: r for t, r in after.items() if t not in {"job", "alembic_version"}} == {
        t: r for t, r in before.items() if t not in {"job", "alembic_version"}
    }
    engine = make_engine(url_of(filled), writes=False)
    kept = {constraint["name"] for constraint in inspect(engine).get_check_constraints("job")}
    engine.dispose()
    assert kept == {"ck_job_state_known", "ck_job_outcome_known", "ck_job_closed_has_outcome"}
    with Database.open(url_of(filled)) as database:
        assert [job.id for job in database.jobs(10)] == ["job-1"]


def test_a_migration_that_breaks_halfway_leaves_the_file_as_it_was(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first half of a failed migration is not there either, and the old station goes on."""
    before = rows_of(filled)
    with monkeypatch.context() as changed:
        newer_station(changed, tmp_path, more="    raise RuntimeError('power cut')")
        with pytest.raises(RuntimeError, match="power cut"):
            upgrade(url_of(filled))
    assert rows_of(filled) == before
    Database.open(url_of(filled)).close()


def test_a_migration_that_would_orphan_rows_is_not_committed(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """References are checked before the commit, since they are off while tables are replaced."""
    before = rows_of(filled)
    newer_station(monkeypatch, tmp_path, more='    op.execute("DELETE FROM board")')
    with pytest.raises(RecordsUnwritable, match="1 rows would refer to nothing"):
        upgrade(url_of(filled))
    assert rows_of(filled) == before


def test_a_first_upgrade_that_fails_at_any_operation_leaves_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail the N-th operation of making the tables: none is there, and the next try makes all of them."""
    fault = Fault()

    def faulty(url: str, **options: bool) -> object:
        return make_engine(url, writes=options["writes"], foreign_keys=False, factory=fault.factory)

    monkeypatch.setattr(migrate_module, "make_engine", faulty)
    fault.arm(None)
    upgrade(url_of(tmp_path / "whole.db"))
    whole, operations = rows_of(tmp_path / "whole.db"), fault.count
    assert operations > 20
    for at in range(1, operations + 1):
        file = tmp_path / f"{at}.db"
        fault.arm(at)
        with pytest.raises(RecordsUnwritable):
            upgrade(url_of(file))
        assert rows_of(file) == {}
        fault.arm(None)
        upgrade(url_of(file))
        assert rows_of(file) == whole


def test_a_newer_file_and_a_foreign_file_are_refused_and_not_touched(filled: Path, tmp_path: Path) -> None:
    """Neither opening nor upgrading writes to a file that a newer station or another program made."""
    connection = sqlite3.connect(filled)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    foreign = tmp_path / "contacts.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE contacts (name TEXT)")
    connection.close()
    for file, words in ((filled, "newer station"), (foreign, "not a database of this program")):
        before = rows_of(file)
        for attempt in (lambda url: Database.open(url).close(), upgrade):
            with pytest.raises(ConfigurationError, match=f"{words}.*Fix: "):
                attempt(url_of(file))
        assert any(words in problem for problem in check(url_of(file)))
        assert rows_of(file) == before


def test_check_names_what_is_wrong(filled: Path, tmp_path: Path) -> None:
    """Missing file, dangling reference and damage are each one line; a whole file has none, and nothing is created."""
    assert check(url_of(filled)) == []
    assert "no such database" in check(url_of(tmp_path / "missing.db"))[0]
    assert not (tmp_path / "missing.db").exists()
    connection = sqlite3.connect(filled)
    connection.execute("DELETE FROM board")
    connection.commit()
    connection.close()
    assert check(url_of(filled)) == ["a row of job refers to a row of board that does not exist"]
    filled.write_bytes(b"\xa5" * 8192)
    assert "corrupt" in check(url_of(filled))[0]


def test_records_are_never_migrated_down(filled: Path) -> None:
    """A downgrade is refused in words and changes nothing."""
    engine = make_engine(url_of(filled), writes=True)
    before = rows_of(filled)
    config = migrate_module._config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="never migrated down"):
            command.downgrade(config, "base")
    engine.dispose()
    assert rows_of(filled) == before
