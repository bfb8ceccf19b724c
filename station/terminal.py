"""What a terminal shows: each slot live, and what is on record at the end, as a table or as JSON.

Words and shapes are those of the page. The tables go to the console that is given (standard error, so that standard output
stays for `--json`); on something that is no terminal one line is written per change of a slot's light instead. What a board
or an adapter said is shown escaped and never interpreted, neither by the terminal nor as this console's own markup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from station.adapters.lights import APPEARANCES, Colour
from station.adapters.logs import one_line
from station.adapters.records import VisitRow
from station.floor import Floor
from station.views import SlotView, StationView

_STYLES = {Colour.RED: "bold red", Colour.AMBER: "bold yellow", Colour.GREEN: "bold green", Colour.GREY: "dim"}
_BAR_CELLS = 20
_DETAIL_CHARACTERS = 120


def bench_table(view: StationView) -> Table:
    """Return the bench as a table, one row per slot."""
    title = f"{view.station_id}   {view.product or 'no recipe'} {view.recipe_version} [{view.recipe_hash}]"
    table = Table(title=_text(title), title_justify="left", expand=False)
    for heading in ("slot", "state", "phase", "progress", "board", "what to do"):
        table.add_column(heading, no_wrap=heading != "what to do")
    for slot in view.slots:
        table.add_row(
            _text(slot.slot),
            _state(slot),
            slot.phase or "",
            _progress(slot),
            f"{slot.mac} {slot.chip_id}".strip(),
            _text(_what(slot) or slot.note),
        )
    return table


def pending_table(view: StationView) -> Table:
    """Return the boards that are flashed and wait for their test, longest waiting first."""
    title = f"flashed, not tested: {view.pending_count}"
    table = Table(title=title, title_justify="left", expand=False)
    for heading in ("board", "chip ID", "slot", "since", "what it waits for"):
        table.add_column(heading, no_wrap=heading != "what it waits for")
    for board in view.pending:
        cells = (board.mac, board.chip_id, board.slot, _minute(board.since), board.words)
        table.add_row(*(_text(cell) for cell in cells))
    return table


def jobs_table(jobs: Sequence[dict[str, object]], visits: Sequence[dict[str, object]]) -> Table:
    """Return what is on record: every job, and every visit that found something else than a board to make."""
    table = Table(title="on record", title_justify="left")
    for heading in ("slot", "board", "chip ID", "outcome", "reason", "seconds", "detail"):
        table.add_column(heading, no_wrap=heading != "detail")
    # The detail gives way first, and to one line: in full it is on record.
    for job in jobs:
        phases = job["phases"]
        seconds = sum(phase["duration_s"] for phase in phases) if isinstance(phases, list) else 0.0
        outcome = job["outcome"] or job["state"]
        cells = (job["slot"], job["mac"], job["chip_id"], outcome, job["reason"], f"{seconds:.1f}", job["detail"])
        table.add_row(*(_cell(cell) for cell in cells))
    for visit in visits:
        if visit["finding"]:
            cells = (visit["slot"], "", "", "no job", visit["finding"], "", visit["detail"])
            table.add_row(*(_cell(cell) for cell in cells))
    return table


def visit_as_json(visit: VisitRow) -> dict[str, object]:
    """Return a visit the way `--json` prints it."""
    return {
        "visit": visit.id,
        "slot": visit.slot,
        "finding": visit.finding or None,
        "detail": visit.detail,
        "jobs": list(visit.job_ids),
    }


async def show_live(floor: Floor, console: Console) -> None:
    """Keep the bench on the console up to date until cancelled."""
    if not console.is_terminal:
        await _write_changes(floor, console)
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        seen = -1
        try:
            while True:
                seen = await floor.wait_change(seen)
                live.update(_screen(floor.view()), refresh=True)
                await asyncio.sleep(0.1)
        finally:
            live.update(_screen(floor.view()), refresh=True)


def _screen(view: StationView) -> Group:
    notices = (_text(notice, style="bold red") for notice in view.notices)
    waiting = (pending_table(view),) if view.pending else ()
    return Group(*notices, bench_table(view), *waiting)


async def _write_changes(floor: Floor, console: Console) -> None:
    seen, shown = -1, dict[str, tuple[object, ...]]()
    while True:
        seen = await floor.wait_change(seen)
        for slot in floor.view().slots:
            state = (slot.light, slot.headline, slot.phase, slot.words)
            if shown.get(slot.slot) != state:
                shown[slot.slot] = state
                words = " ".join(part for part in (slot.phase or "", slot.words, slot.mac) if part)
                line = f"{slot.slot} {APPEARANCES[slot.light].shape} {slot.headline} {words}".rstrip()
                console.print(_text(line), soft_wrap=True)


def _text(said: str, style: str = "") -> Text:
    """Text that is shown as it stands: nothing in it is a control sequence or markup, whoever said it."""
    return Text(one_line(said, _DETAIL_CHARACTERS), style=style)


def _cell(value: object) -> Text:
    """One line of a table, cut where there is no room."""
    text = _text(str(value or ""))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _what(slot: SlotView) -> str:
    """What happened and what to do; of a board that may have left unseen, as of when."""
    said = " - ".join(part for part in (slot.words, slot.deed) if part)
    return f"as of {_minute(slot.changed_at)}: {said}" if slot.unwatched else said


def _minute(moment: str) -> str:
    """`2026-11-22T12:03:04.567+00:00` as people read it: `2026-11-22 12:03 UTC`."""
    return f"{moment[:16].replace('T', ' ')} UTC"


def _state(slot: SlotView) -> Text:
    appearance = APPEARANCES[slot.light]
    return _text(f"{appearance.shape} {slot.headline}", style=_STYLES[appearance.colour])


def _progress(slot: SlotView) -> Text:
    if slot.fraction is None:
        return _text(slot.note)
    filled = round(slot.fraction * _BAR_CELLS)
    return _text(f"{'█' * filled}{'·' * (_BAR_CELLS - filled)} {slot.fraction:4.0%}")
