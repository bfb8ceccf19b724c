"""The page of one board, which the QR code on its label opens on a phone: HTML without a script, made of what is on record.

Every text is escaped, whoever wrote it. It shows the newest job large and the earlier ones as a list; times are UTC, as in
the records. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from station.labels import STRANGER

CSS = "board.css"
MOST_CHARACTERS = 300
_WORDS = {"PASS": "GOOD", "FAIL": "BAD", "ERROR": "NOT JUDGED", "ABORTED": "BROKEN OFF"}
_UNSAFE = dict.fromkeys(
    [
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x206A),
        0xFEFF,
    ],
    "\N{REPLACEMENT CHARACTER}",
)


def board_page(key: str, lives: Sequence[Mapping[str, Any]], *, home: bool) -> str:
    """Return the page of the board that was asked for by `key`; `home`: with ways to the operator's page and the JSON."""
    body = "".join(map(_board, lives)) if lives else f"<h1>{_text(key)}</h1><p>{STRANGER}</p>"
    if len(lives) > 1:
        body = f"<p class=many>{len(lives)} boards share this chip ID.</p>{body}"
    everything = (
        f'<a href="/api/board/{quote(key, safe="", errors="replace")}">all measurements (JSON)</a>' if lives else ""
    )
    ways = " · ".join(filter(None, ('<a href="/">to the bench</a>', everything)))
    return page(_text(key), body + (f"<p>{ways}</p>" if home else ""))


def page(title: str, body: str) -> str:
    """Return a whole document; both are HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="stylesheet" href="/{CSS}"></head><body><main>{body}</main></body></html>'
    )


def refusal(problem: str) -> str:
    """Return a page that says why there is none."""
    return page("no page", f"<h1>No page</h1><p>{_text(problem)}</p>")


def _board(life: Mapping[str, Any]) -> str:
    jobs = list(reversed(life["jobs"]))
    marks = "".join(f"<p class=mark>{_text(mark)} board</p>" for mark in life["marks"])
    newest = _result(jobs[0]) if jobs else "<p>No job of this board is on record.</p>"
    return (
        f'<article data-mac="{_text(life["mac"])}">{newest}{marks}'
        f"{_facts([('MAC', life['mac']), ('chip ID', life['chip_id']), *_about(jobs)])}"
        f"{_list('Jobs', map(_job_line, jobs))}{_list('Visits without a job', map(_finding_line, life['findings']))}"
        f"{_list('Labels', map(_label_line, life['labels']))}</article>"
    )


def _result(job: Mapping[str, Any]) -> str:
    outcome = job["outcome"] or ""
    word = _WORDS.get(outcome, "WAITS FOR ITS TEST" if job["state"] == "pending" else "BEING MADE")
    look = outcome.lower() or "open"
    said = f"<p>{_text(job['words'])}</p>" if job["words"] else ""
    return f'<header class="{_text(look)}"><p>{_text(job["product"])}</p><h1>{word}</h1>{said}</header>'


def _about(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, object]]:
    if not jobs:
        return []
    newest = jobs[0]
    return [
        *newest["values"].items(),
        ("when", newest["ended_at"] or newest["started_at"]),
        ("slot", f"{newest['station']} {newest['slot']}"),
        ("recipe", f"{newest['recipe']} {newest['recipe_version']}"),
        ("attempts", newest["attempt"]),
    ]


def _facts(pairs: Sequence[tuple[str, object]]) -> str:
    rows = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in pairs)
    return f"<dl>{rows}</dl>"


def _list(title: str, lines: map[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""


def _job_line(job: Mapping[str, Any]) -> str:
    ended = job["outcome"] or job["state"]
    said = " · ".join(map(str, filter(None, (job["words"], job["product"], f"{job['station']} {job['slot']}"))))
    return f"<b>{_text(ended)}</b> {_text(job['ended_at'] or job['started_at'])}<br>{_text(said)}"


def _finding_line(finding: Mapping[str, Any]) -> str:
    return f"{_text(finding['plugged_at'])} {_text(finding['slot'])}<br>{_text(finding['words'])}"


def _label_line(label: Mapping[str, Any]) -> str:
    asked = f"asked for by {label['person']}: {label['reason']}" if label["person"] else ""
    said = " · ".join(filter(None, (label["detail"], asked)))
    return f"<b>{_text(label['state'])}</b> {_text(label['asked_at'])}<br>{_text(said)}"


def _text(value: object) -> str:
    """Any value as text of a page: capped, without what hides or reorders it, and escaped."""
    return escape(str(value)[:MOST_CHARACTERS].translate(_UNSAFE), quote=True)
