"""Runs one demo board that gets a serial number, in a process that kills itself at a named moment; for test_kill_numbers.py.

Arguments: database URL, state directory, seed, moment. Beside the moments of `killed_station` there are `torn` (half of the
line is in the high-water file), `line` (it says it, the records do not), `reserved` (both do, and there is no job yet),
`confirming` (inside of the commit of the PASS), and of a job that ends before anything was sent, so that its number goes back,
`returning` (inside of that commit) and `returned` (after it).
"""

from __future__ import annotations

import sys
from pathlib import Path

from station import demo
from station.adapters.records import Database, Span, high_water, numbers
from station.adapters.records.number_book import NumberBook
from station.errors import JobEnded
from station.jobrun import JobRun
from station.model import Phase
from station.reasons import Reason
from tests.e2e import killed_station

RECIPE = """
[serial]
pool = "sensors"
format = "SN{number:04d}"

[files]
tree = "tree"
fill_in = ["serial.txt"]
method = "repl"
"""


def arm(moment: str) -> None:
    """Let the process die at this moment."""
    match moment:
        case "line" | "torn":
            die_at_the_line(torn=moment == "torn")
        case "confirming" | "returning":
            die_in_the_commit()
        case "reserved":
            die_when_reserved()


def die_at_the_line(*, torn: bool) -> None:
    """In the middle of the line of a reservation, or right after it."""
    append = high_water.append

    def deadly_append(file, lines) -> None:
        reserves = any(line.event == "reserve" for line in lines)
        if reserves and torn:
            with file.open("ab") as half:
                half.write(high_water._encoded(lines[0])[:90])
        else:
            append(file, lines)
        if reserves:
            killed_station.die()

    high_water.append = deadly_append


def die_in_the_commit() -> None:
    """When the transaction that ends the job has said what becomes of the number."""
    settle = numbers.Ledger.settle

    def deadly_settle(ledger, job_id, end) -> None:
        settle(ledger, job_id, end)
        killed_station.die()

    numbers.Ledger.settle = deadly_settle


def die_when_reserved() -> None:
    """When the reservation is durable."""
    reserve = NumberBook.reserve_number

    def deadly_reserve(book, *asked):
        reserve(book, *asked)
        killed_station.die()

    NumberBook.reserve_number = deadly_reserve


def end_before_the_flash() -> None:
    """Let the job end when it has its number and nothing was sent yet."""
    whole = JobRun.phase

    def refusing(run, now: Phase):
        if now is Phase.FLASH:
            raise JobEnded(Reason.STOPPED_BY_REQUEST, "before the flash")
        return whole(run, now)

    JobRun.phase = refusing


def main() -> None:
    """Give the bench its range, once, and run the board."""
    url, state_dir, _seed, moment = sys.argv[1:]
    demo.POLICIES = dict.fromkeys(demo.POLICIES, RECIPE)
    tree = Path(state_dir) / "recipe" / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    (tree / "serial.txt").write_text("${serial}\n")
    with Database.open(url, station_id="demo") as records:
        if not records.numbers_left():
            records.numbers.grant(Span(pool="sensors", first=1, last=50), "Ada", "for the test")
    if moment in ("returning", "returned"):
        end_before_the_flash()
    arm(moment)
    if moment == "returned":
        sys.argv[-1] = "committed"
    killed_station.main()


if __name__ == "__main__":
    main()
