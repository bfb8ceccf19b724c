"""What a command costs before it says a word: a small machine takes seconds for libraries that the command does not need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from station.adapters.records import upgrade
from tests.e2e.command import write_config

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "alembic",
    "asyncio",
    "esptool",
    "littlefs",
    "mako",
    "prometheus_client",
    "pygments",
    "pyudev",
    "rich",
    "serial",
    "sqlalchemy",
    "starlette",
    "structlog",
    "tomlkit",
    "uvicorn",
}
# SQLAlchemy itself imports asyncio; structlog imports rich where it is installed, and rich pygments.
RECORDS = {"sqlalchemy", "asyncio"}
LOG = {"structlog", "rich", "pygments"}
MAC = "5c:cf:7f:0b:ad:01"


def heavy_imports(*arguments: object, good: tuple[int, ...] = (0,)) -> set[str]:
    """Run `station ARGUMENTS…` to a good end; return which of the heavy libraries it imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "station", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in good, re.sub(r"(?m)^import time:.*\n", "", done.stderr)
    imported = set(re.findall(r"(?m)^import time:.*\| +(\S+)$", done.stderr))
    assert "station.cli" in imported
    return HEAVY & imported


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Empty records of today's schema, where `write_config` has them, too."""
    (tmp_path / "state").mkdir()
    url = f"sqlite:///{tmp_path / 'state' / 'station.db'}"
    upgrade(url)
    return url


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("db check", RECORDS),
        ("db upgrade", RECORDS),
        ("report yield --format json", RECORDS),
        ("report jobs --format csv", RECORDS),
        ("report jobs", RECORDS | {"rich"}),
        (f"report board {MAC} --format json", RECORDS),
        ("pending list --json", RECORDS),
        (f"board show {MAC}", RECORDS),
        (f"board mark golden {MAC} --by ada --reason first", RECORDS),
    ],
)
def test_records_of_today_are_opened_without_what_would_migrate_them(command: str, needed: set[str], url: str) -> None:
    """Who reads or writes up-to-date records imports SQLAlchemy, a table besides `rich`, and never Alembic."""
    assert heavy_imports(*command.split(), "--db", url) <= needed


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("config check", set()),
        ("upgrade check", RECORDS),
        ("slots list --json", RECORDS | LOG | {"pyudev"}),
        ("support --out", RECORDS | LOG),
    ],
)
def test_a_command_with_a_configuration_imports_what_it_needs(
    command: str, needed: set[str], url: str, tmp_path: Path
) -> None:
    """No command brings the page, the flasher or the migrations along, and the package's own question only the records."""
    assert heavy_imports(*command.split(), *_last(command, tmp_path), "--config", write_config(tmp_path)) <= needed


def test_the_doctor_looks_without_the_log_and_the_migrations(url: str, tmp_path: Path) -> None:
    """`station doctor` compares the schema's version, too, and needs only the records for it; 1 says it found a problem."""
    del url
    assert heavy_imports("doctor", "--config", write_config(tmp_path), good=(0, 1)) <= RECORDS


@pytest.mark.parametrize(
    "command", ["", "bench ", "demo ", "run ", "report ", "setup ", "flash ", "qualify ", "backup "]
)
def test_help_is_there_at_once(command: str) -> None:
    """`--help` needs nothing but the command line itself."""
    assert heavy_imports(*command.split(), "--help") == set()


def test_the_records_are_opened_for_work_without_alembic(url: str) -> None:
    """The daemon, too, opens up-to-date records without Alembic; records that must be made first do import it."""
    code = (
        "import sys; from station.adapters.records import Database; "
        "Database.open(sys.argv[1], exclusive=True).close(); print('alembic' in sys.modules)"
    )
    for each, imported in ((url, "False"), (url.replace("station.db", "new.db"), "True")):
        done = subprocess.run([sys.executable, "-c", code, each], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == imported


def _last(command: str, tmp_path: Path) -> list[Path]:
    """The file that `--out` asks for."""
    return [tmp_path / "bundle.tar.gz"] if command.endswith("--out") else []
