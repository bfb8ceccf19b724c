"""The page of one board: what it says, and that nothing on record can become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.panel.board_page import board_page, refusal

MAC = "5c:cf:7f:dd:c1:42"
TAGS = {"html", "head", "meta", "title", "link", "body", "main", "article", "header", "p", "h1", "h2", "dl", "dt", "dd"}
TAGS |= {"ul", "li", "b", "br", "a"}


def job(**changes: Any) -> dict[str, Any]:
    """One job as the records tell it."""
    usual = {
        "job": "j",
        "product": "Lamp",
        "recipe": "blink",
        "recipe_version": "1",
        "station": "bench-1",
        "slot": "A3",
        "state": "closed",
        "outcome": "PASS",
        "reason": "",
        "words": "",
        "attempt": 2,
        "started_at": "2025-11-22T08:02:00.000Z",
        "ended_at": "2025-11-22T08:02:21.000Z",
        "values": {"serial": "SN000012"},
    }
    return usual | changes


def life(*jobs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One board."""
    usual = {"mac": MAC, "chip_id": "0x00ddc142", "marks": [], "jobs": list(jobs), "findings": [], "labels": []}
    return usual | changes


class Reader(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep it."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += f" {data}"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "GOOD"),
        ({"outcome": "FAIL", "words": "no start"}, "BAD"),
        ({"outcome": "ERROR"}, "NOT JUDGED"),
        ({"outcome": "ABORTED"}, "BROKEN OFF"),
        ({"state": "pending", "outcome": None, "ended_at": None}, "WAITS FOR ITS TEST"),
        ({"state": "running", "outcome": None, "ended_at": None}, "BEING MADE"),
    ],
)
def test_the_newest_job_stands_large(changes, word) -> None:
    """An earlier PASS says nothing about a board that was made again; who looks at a phone reads one word first."""
    page = board_page(MAC, [life(job(), job(**changes))], home=True)
    assert f"<h1>{word}</h1>" in page
    assert page.count("<h1>") == 1


def test_the_page_says_what_a_label_cannot() -> None:
    """Product, result, serial number, when, slot and attempts, and every job and label below."""
    labels = [{"state": "failed", "asked_at": "t", "detail": "torn", "person": "Ada", "reason": "again"}]
    findings = [{"plugged_at": "t0", "slot": "A1", "finding": "no_answer", "words": "no answer", "detail": ""}]
    told = life(job(outcome="FAIL", attempt=1), job(), labels=labels, findings=findings, marks=["golden"])
    text = Reader(board_page(MAC, [told], home=False)).text
    for said in ("Lamp", "SN000012", "bench-1 A3", "2025-11-22T08:02:21.000Z", MAC, "0x00ddc142", "golden board"):
        assert said in text
    assert re.search(r"attempts\s+2", text)
    assert "torn · asked for by Ada: again" in text
    assert "no answer" in text


def test_boards_that_share_a_chip_id_stand_below_each_other() -> None:
    """It says so, and each has its own MAC."""
    page = board_page("0x00ddc142", [life(job()), life(job(), mac="18:fe:34:dd:c1:42")], home=False)
    assert "2 boards share this chip ID" in page
    assert page.count("<article") == 2


def test_a_way_back_is_only_where_there_is_something_to_go_back_to() -> None:
    """On a phone there is no operator's page."""
    assert 'href="/"' in board_page(MAC, [], home=True)
    assert 'href="/"' not in board_page(MAC, [], home=False)
    assert "No record knows this board" in board_page(MAC, [], home=False)
    assert 'href="/api/board/5c%3Acf%3A7f%3Add%3Ac1%3A42"' in board_page(MAC, [life(job())], home=True)
    assert "/api/" not in board_page(MAC, [life(job())], home=False) + board_page(MAC, [], home=True)


@given(st.text(max_size=400) | st.sampled_from(["<script>alert(1)</script>", '" onload="x', "\u202egnp.exe", "&amp;"]))
def test_no_text_becomes_markup(hostile: str) -> None:
    """Whatever stands in any text, the page has the tags and attributes that it always has, and nothing hidden."""
    changes = dict.fromkeys(("product", "recipe", "recipe_version", "station", "slot", "reason", "words"), hostile)
    told = life(
        job(**changes, values={hostile: hostile}),
        mac=hostile,
        chip_id=hostile,
        marks=[hostile],
        findings=[{"plugged_at": hostile, "slot": hostile, "words": hostile}],
        labels=[{"state": hostile, "asked_at": hostile, "detail": hostile, "person": hostile, "reason": hostile}],
    )
    for page in (board_page(hostile, [told], home=True), refusal(hostile)):
        reader = Reader(page)
        assert reader.tags <= TAGS
        assert reader.attributes <= {"lang", "charset", "name", "content", "rel", "href", "class", "data-mac"}
        assert not re.search(r"[\x00-\x1f\u202a-\u202e\u200b\ufeff]", page)
