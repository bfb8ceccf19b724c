"""The station as a person sees it: its page's JSON over loopback, and its records, read only.

No `station` command is used here: each start of Python costs seconds in an emulated machine.
"""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.acceptance.guest.system import PATIENCE, POLL_S, wait_for
from tests.acceptance.guest.telling import CaseFailed, check

ADDRESS = "http://127.0.0.1:8080"
RECORDS = Path("/var/lib/station/station.db")
END_LIGHTS = ("PASS", "FAIL", "FAULT", "ACTION")
RESTART_S = 45.0
FOR_GOOD_S = 20.0
"""A slot that shows an end for so long will not go on by itself; a hub has to be quiet for ten."""
Job = Mapping[str, Any]
"""One row of the table `job`."""


def get(path: str, limit_s: float = 20.0) -> tuple[int, bytes]:
    """Return status and body; raises OSError while nobody answers."""
    try:
        with urllib.request.urlopen(ADDRESS + path, timeout=limit_s) as answer:  # noqa: S310 - http
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def answers() -> bool:
    """Whether the page answers at all."""
    try:
        return get("/healthz")[0] == 200
    except OSError:
        return False


def view() -> Mapping[str, Any]:
    """Return the whole bench as the page shows it; a station that is being restarted is waited for."""
    deadline = time.monotonic() + RESTART_S * PATIENCE
    while True:
        try:
            shown: Mapping[str, Any] = json.loads(get("/api/slots")[1])
        except OSError as error:
            if time.monotonic() > deadline:
                raise CaseFailed(f"the page does not answer for {RESTART_S * PATIENCE:.0f} s: {error}") from None
            time.sleep(POLL_S)
        else:
            return shown


def tiles() -> dict[str, Mapping[str, Any]]:
    """Return label -> tile of the slots of the map."""
    return {tile["slot"]: tile for tile in view()["slots"] if tile["known"]}


def wait_ready(limit_s: float = 90.0) -> None:
    """Wait until the station answers and can take boards."""

    def ready() -> bool:
        return answers() and get("/readyz")[0] == 200

    wait_for("the station is ready", ready, limit_s=limit_s)


def query(question: str, *values: object) -> list[dict[str, Any]]:
    """Ask the records; they are opened read-only."""
    with closing(sqlite3.connect(f"file:{RECORDS}?mode=ro", uri=True, timeout=20)) as records:
        records.row_factory = sqlite3.Row
        return [dict(row) for row in records.execute(question, values)]


def newest_job() -> int:
    """Return the sequence number of the newest job; 0 when there is none."""
    return int(query("SELECT coalesce(max(sequence), 0) AS newest FROM job")[0]["newest"])


def jobs_after(sequence: int) -> list[Job]:
    """Return the jobs begun since, oldest first."""
    wanted = "SELECT sequence, id, slot, state, outcome, reason, detail, board_mac, bytes_flashed, duration_s FROM job"
    return list(query(f"{wanted} WHERE sequence > ? ORDER BY sequence", sequence))


def passed_macs(jobs: Collection[Job]) -> dict[str, str]:
    """Return slot -> MAC of the jobs that passed."""
    return {str(job["slot"]): str(job["board_mac"]) for job in jobs if job["outcome"] == "PASS"}


def wait_passed(slots: Collection[str], since: int, limit_s: float) -> list[Job]:
    """Wait until each of these slots has a job begun after `since` that passed, and shows it; return those jobs.

    Raises `CaseFailed` with what they show instead, also as soon as all of them have shown an end for a while.
    """
    deadline, ended_at = time.monotonic() + limit_s * PATIENCE, None
    while True:
        now, shown = time.monotonic(), {label: tile for label, tile in tiles().items() if label in slots}
        jobs = [job for job in jobs_after(since) if job["outcome"] == "PASS" and job["slot"] in slots]
        if {job["slot"] for job in jobs} == set(slots) and all(tile["light"] == "PASS" for tile in shown.values()):
            return jobs
        ended = all(tile["light"] in END_LIGHTS for tile in shown.values())
        ended_at = (ended_at or now) if ended else None
        if now > deadline or (ended_at and now - ended_at > FOR_GOOD_S * PATIENCE):
            found = [f"{job['slot']} {job['state']} {job['outcome']} {job['reason']}" for job in jobs_after(since)]
            raise CaseFailed(f"not all passed:\n{in_short(shown)}\njobs {found}")
        time.sleep(POLL_S)


def in_short(shown: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what tiles show, in one line."""
    return ", ".join(f"{label} {_tile_in_short(tile)}" for label, tile in sorted(shown.items()))


def _tile_in_short(tile: Mapping[str, Any]) -> str:
    if tile["light"] != "BUSY":
        return f"{tile['light']} {tile['reason'] or tile['words'] or ''}".strip()
    return f"{tile['phase'] or 'BUSY'} {tile['fraction'] or 0:.0%}"


def check_greens() -> int:
    """Check that every green tile has a closed PASS with its board in the records; return how many are green."""
    green = [tile for tile in tiles().values() if tile["light"] == "PASS"]
    for tile in green:
        rows = query("SELECT state, outcome, board_mac FROM job WHERE id = ?", tile["job_id"])
        row = rows[0] if rows else {}
        good = row.get("state") == "closed" and row.get("outcome") == "PASS" and row.get("board_mac") == tile["mac"]
        check(good, f"{tile['slot']} is green for {tile['mac']}, and the records say {row}")
    return len(green)


def writing(labels: Collection[str], fraction: float, *, every: bool = False) -> bool:
    """Whether one of these slots, or every one, is that far into FLASH."""
    shown = tiles()
    return (all if every else any)(
        shown[label]["phase"] == "FLASH" and (shown[label]["fraction"] or 0.0) >= fraction for label in labels
    )


def closed(since: int, labels: Collection[str]) -> list[Job]:
    """Return the jobs begun since in these slots, when each slot has one and all are closed; else nothing."""
    jobs = [job for job in jobs_after(since) if job["slot"] in labels]
    whole = {job["slot"] for job in jobs} == set(labels) and all(job["state"] == "closed" for job in jobs)
    return jobs if whole else []


def ended(labels: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return the tiles of these slots, when every one shows an end; else nothing."""
    shown = {label: tile for label, tile in tiles().items() if label in labels}
    return shown if all(tile["light"] in END_LIGHTS for tile in shown.values()) else {}


def no_light(*lights: str) -> bool:
    """Whether no slot shows one of these."""
    return not any(tile["light"] in lights for tile in tiles().values())


def summary(jobs: Collection[Job]) -> str:
    """Say how the jobs ended, in a few words."""
    counts: dict[str, int] = {}
    for job in jobs:
        end = job["outcome"] if job["state"] == "closed" else job["state"]
        key = f"{end} {job['reason']}".strip()
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{count} {key}" for key, count in sorted(counts.items()))
