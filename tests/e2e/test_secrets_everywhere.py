"""A shift in which everything goes wrong, and boards that tell what they know: no secret is anywhere but on the boards."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import tarfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from station import demo
from station.adapters.backup import make_backup
from station.adapters.logs import configure_logging
from station.adapters.records import Database, Span
from station.config import BackupSection, Config, WorkSection
from station.secrets import REDACTED, Vault
from station.support import write_bundle
from tests.e2e import harness

WIFI, WEBREPL, CLOUD = "Sommerregen-2031", "tuer7auf", "tok_4f9c2d17aa"
ROWS = [(f"sensor-{number}", f"row-key-{number:02}-q7zx") for number in range(1, 25)]
SECRETS = (WIFI, WEBREPL, CLOUD, *(key for _, key in ROWS))
RECIPE = """
[serial]
pool = "sensors"
format = "SN{number:04d}"

[values]
csv = "rows.csv"
by = "row"
secret = ["key"]

[network]
ssid = "bench"
key_secret = "wifi"
webrepl_secret = "webrepl"

[files]
tree = "tree"
fill_in = ["main.py", "told.txt"]
method = "repl"

[[check]]
name = "tell"
file = "tell.py"
limits = { silent = true }
"""
# What each kind of board does with what it was given: crash with it, measure it, or say it where nobody asked.
TELL = """
import machine, sys, time
from binascii import b2a_base64, hexlify

def check():
    said = open('told.txt').read()
    raw = said.encode()
    for form in (hexlify(raw), b2a_base64(raw), raw, list(raw), [said]):
        print(form)
    for letter in said:
        sys.stdout.write(letter)
        time.sleep_ms(1)
    kind = machine.unique_id()[0] % 4
    if kind == 0:
        raise ValueError(said)
    if kind == 1:
        return {'silent': said[:200], 'other': said[-200:]}
    if kind == 2:
        print(said)
        raise OSError(5)
    return {'silent': True}
"""
TOLD = "${secret.wifi}|${secret.webrepl}|${secret.cloud}|${values.key}|${values.label}|${serial}\n"
FAULTS = (
    "A1:traceback",
    "A2:repl_garbage",
    "A3:unplug@50",
    "A4:no_boot",
    "A5:out_of_limits",
    "A6:swapped",
    "A7:run_mode",
)


def forms_of(secret: str) -> list[bytes]:
    """How a careless program may have written it down."""
    raw = secret.encode()
    encoded = [base64.b64encode(b"\0" * before + raw)[4 * bool(before) : -4] for before in range(3)]
    return [
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        raw[::-1],
        ", ".join(map(str, raw)).encode(),
        *(form for form in encoded if len(form) > 7),
    ]


def leaks_in(content: bytes) -> set[str]:
    """The secrets that stand somewhere in it."""
    return {secret for secret in SECRETS if any(form in content for form in forms_of(secret))}


def test_the_search_finds_what_it_looks_for() -> None:
    """The search below is not blind: plain, hex and base64 are found in the middle of anything."""
    for said in (
        WIFI.encode(),
        WIFI.encode().hex().encode(),
        str(list(WIFI.encode())).encode(),
        base64.b64encode(b"xy" + WIFI.encode() + b"zz"),
    ):
        assert leaks_in(b"..." + said + b"...") == {WIFI}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """A bench whose recipe gives every board secrets; the configuration that it ran with comes into the list."""
    secrets, values, second = tmp_path / "secrets", tmp_path / "values", tmp_path / "second"
    for directory in (secrets, values, second, tmp_path / "state/recipe/tree"):
        directory.mkdir(parents=True)
    for name, secret in (("wifi", WIFI), ("webrepl", WEBREPL), ("cloud", CLOUD)):
        (secrets / name).write_text(f"{secret}\n")
        (secrets / name).chmod(0o600)
    (values / "rows.csv").write_text("label,key\n" + "".join(f"{label},{key}\n" for label, key in ROWS))
    tree = tmp_path / "state/recipe/tree"
    (tree / "told.txt").write_text(TOLD)
    (tree / "main.py").write_text(
        "KEY = ${secret.cloud|quoted}\nprint('starting with', KEY, open('told.txt').read())\n"
    )
    (tmp_path / "state/recipe/tell.py").write_text(TELL)
    monkeypatch.setattr(demo, "POLICIES", dict.fromkeys(demo.POLICIES, RECIPE))
    plain, used = demo.demo_config, []

    def with_data(request: demo.DemoRequest, work: WorkSection) -> Config:
        made = plain(request, msgspec.structs.replace(work, values=str(values), secrets=str(secrets)))
        used.append(msgspec.structs.replace(made, backup=BackupSection(directory=str(second))))
        return used[-1]

    monkeypatch.setattr(demo, "demo_config", with_data)
    return used


def test_no_secret_is_anywhere_but_on_the_boards(
    tmp_path: Path, config: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log, records, page, metrics, transcripts, journal, backup and support bundle: in none of them, in no form."""
    request = harness.request_for(tmp_path, slots=8, boards=14, faults=FAULTS)
    with Database.open(request.database_url, station_id="demo") as records:
        records.numbers.grant(Span(pool="sensors", first=1, last=99), "Ada", "for the test")
        records.numbers.grant(Span(pool="rows/rows.csv", first=1, last=99), "Ada", "for the test")
    vault, log = Vault(), io.StringIO()
    monkeypatch.setattr(harness, "run_demo", functools.partial(demo.run_demo, vault=vault))
    with configure_logging("debug", "json", log, vault=vault):
        shift = harness.work_a_shift(request)

    backup = make_backup(config[0], None, to=tmp_path / "backup.tar.gz", before="", now=datetime.now(UTC)).path
    support = write_bundle(config[0], None, tmp_path / "support.tar.gz", root=tmp_path).file
    left = {
        "log": log.getvalue().encode(),
        "pages": msgspec.json.encode(shift.pages),
        "views": repr(shift.history).encode(),
        "result": repr(shift.result).encode(),
        **{f"{archive.name}:{name}": content for archive in (backup, support) for name, content in members(archive)},
    }
    kept_apart = {tmp_path / "secrets", tmp_path / "values"}
    for file in tmp_path.rglob("*"):
        if file.is_file() and not kept_apart & set(file.parents):
            left[str(file.relative_to(tmp_path))] = file.read_bytes()
    assert {"station.db", "second/jobs-demo.jsonl", "numbers.jsonl"} <= set(left)
    assert {name: found for name, content in left.items() if (found := leaks_in(content))} == {}

    # They were there to be told: boards crashed with them, measured them, printed them.
    jobs: list[dict[str, Any]] = shift.result.jobs
    assert {"check_raised", "out_of_limits"} <= {str(job["reason"]) for job in jobs}, jobs
    assert sum(REDACTED in str(job) for job in jobs) >= 2, jobs
    assert any(job["values"].get("serial", "").startswith("SN00") for job in jobs)
    assert all("key" not in job["values"] for job in jobs)
    assert REDACTED.encode() in left["station.db"]


def members(archive: Path) -> list[tuple[str, bytes]]:
    """Every file in it, unpacked as far as it goes."""
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                content = file.read()
                with contextlib.suppress(zlib.error):
                    content = zlib.decompress(content, wbits=31)
                found.append((member.name, content))
    return found
