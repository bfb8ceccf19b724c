"""The operator's page in Debian's Chromium: what a person sees in every state, and when the station is gone."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from station.model import Light, Phase
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties, in_words
from station.reasons import MEANINGS, Reason, deed_for, headline_for
from station.views import PENDING_SHOWN, Diagnosis, Level, SlotView
from tests.panel.doubles import FakeBench, RunningPanel, ago, busy, ended, passed, slot_view, station_view, waiting

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
# Without a sandbox because CI is root; without the rest Chromium calls home from a network that refuses it.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCREENS = ({"width": 1280, "height": 720}, {"width": 1920, "height": 1080})
PATIENCE_MS = 30_000
_marks = itertools.count()
TEST_SLOT = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND, role=Role.TEST)
SEATED = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.HAND, moves=Moves.BOARD)
LABELS = tuple(f"{row}{number}" for row in "ABCD" for number in range(1, 9))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, running_panel: RunningPanel) -> Iterator[Page]:
    """The page, opened and live; a script error or a refused resource fails the test."""
    # Without transitions, or a colour that is asked for would be one on the way from the last to the next.
    page = browser.new_page(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security" in message.text else None)
    page.goto(running_panel.url)
    expect(page.locator("body")).to_have_attribute("data-link", "live", timeout=PATIENCE_MS)
    yield page
    page.close()
    assert complaints == []


def tile(page: Page, slot: str):
    """Return the tile of a slot."""
    return page.locator(f'.tile[data-slot="{slot}"]')


def look_of(page: Page, slot: str) -> Any:
    """Return what tells states apart: look, ground colour, silhouette, word."""
    return page.evaluate(
        """slot => { const tile = document.querySelector(`.tile[data-slot="${slot}"]`);
        return [tile.dataset.look, getComputedStyle(tile).backgroundColor + getComputedStyle(tile.firstChild).boxShadow,
                tile.querySelector("use").getAttribute("href"), tile.querySelector(".headline").textContent]; }""",
        slot,
    )


def every_state() -> tuple[SlotView, ...]:
    """Return one slot per state that a person must tell apart."""
    return (
        slot_view("A1"),
        busy("A2", Phase.FLASH, 0.43),
        passed("A3"),
        ended("A4", Reason.VERIFY_MISMATCH),
        ended("A5", Reason.UNPLUGGED),
        ended("A6", Reason.PORT_BUSY, "screen (4711)"),
        ended("A7", Reason.NOT_IN_DOWNLOAD_MODE),
        ended("A8", Reason.ALREADY_DONE),
        slot_view("2.4", Light.ACTION, "UNKNOWN", known=False, deed="use a slot"),
        ended("B1", Reason.AWAITS_TEST_SLOT, "T1"),
        ended("B2", Reason.INSPECTED, "5c:cf:7f:dd:c1:42, flash 1440c8 (1024 KB)"),
    )


def unwatched(slot: SlotView, seconds: float = 40) -> SlotView:
    """Return a slot whose board may have left unseen since so long."""
    return replace(slot, unwatched=True, changed_at=ago(seconds=seconds))


def seconds_in(text: str) -> int:
    """Return the number of an age in seconds, `40 s` or `40 s ago`."""
    found = re.match(r"(\d+) s\b", text)
    assert found is not None, text
    return int(found[1])


def show(page: Page, panel: RunningPanel, *slots: SlotView, **more) -> None:
    """Show these slots and wait until the page has exactly them."""
    mark = f"v0.{next(_marks)}"
    panel.bench.show(station_view(*slots, **({"recipe_version": mark} | more)))
    wanted = more.get("recipe_version", mark)
    page.wait_for_function("wanted => document.getElementById('recipe-version').textContent === wanted", arg=wanted)


def test_a_change_reaches_the_tile(page, running_panel):
    """A slot that goes from EMPTY over BUSY to GOOD changes word, silhouette and colour on the open page."""
    assert look_of(page, "A1")[2:] == ["#shape-empty", "EMPTY"]
    running_panel.bench.change(busy("A1", Phase.FLASH, 0.43, "460800 baud"))
    expect(tile(page, "A1").locator(".words")).to_have_text("FLASH 43 % · 460800 baud")
    assert look_of(page, "A1")[2:] == ["#shape-busy", "BUSY"]
    running_panel.bench.change(passed("A1"))
    expect(tile(page, "A1").locator(".headline")).to_have_text("GOOD")
    expect(tile(page, "A1").locator(".deed")).to_have_text("unplug, put the board into GOOD")
    assert look_of(page, "A1")[2] == "#shape-good"
    assert tile(page, "A1").locator(".ids").inner_text().split() == ["5c:cf:7f:dd:c1:42", "0x00ddc142"]


def test_states_differ_in_colour_word_and_shape(page, running_panel):
    """No two states share a silhouette, and the four that a hand sorts by share neither colour nor word."""
    show(page, running_panel, *every_state())
    looks = {slot.slot: look_of(page, slot.slot) for slot in every_state()}
    assert len({look[2] for look in looks.values()}) == len(looks)
    sorted_by_hand = [looks[slot] for slot in ("A3", "A4", "A5", "A6")]
    assert [look[3] for look in sorted_by_hand] == ["GOOD", "BAD", "AGAIN", "CALL"]
    assert len({look[1] for look in [*sorted_by_hand, looks["A1"], looks["A2"]]}) == 6


def test_only_a_pass_is_green(page, running_panel):
    """The green ground belongs to the light PASS of a board that is still there, whatever else a slot says of itself."""
    liars = [
        slot_view(f"B{number}", light, "GOOD", words="PASS", known=known)
        for number, (light, known) in enumerate(
            [
                (Light.EMPTY, True),
                (Light.BUSY, True),
                (Light.ACTION, True),
                (Light.FAIL, True),
                (Light.FAULT, True),
                (Light.PASS, False),
            ],
            start=1,
        )
    ]
    liars.append(unwatched(passed("C1")))
    liars.append(ended("C2", Reason.ALREADY_DONE))
    show(page, running_panel, passed("A1"), *liars)
    green = look_of(page, "A1")[1].split(")")[0]
    assert [slot.slot for slot in liars if look_of(page, slot.slot)[1].split(")")[0] == green] == []


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
@pytest.mark.parametrize("count", [1, 8, 32])
def test_fits_one_screen(page, running_panel, screen, count):
    """From one to thirty-two slots everything is on the screen at once: nothing scrolls, nothing overlaps the edge."""
    page.set_viewport_size(screen)
    slots = [ended(label, Reason.NO_ANSWER) for label in LABELS[:count]]
    notices = ("The status light does not answer: check its cable.",) * 5
    show(page, running_panel, *slots, notices=notices, pending=[waiting(n) for n in range(60)], rejected_count=12)
    boxes = page.evaluate(
        """() => [...document.querySelectorAll(".tile, #station, #notices, #pending, #legend, #legend > span")].map(
            each => { const box = each.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; })"""
    )
    assert len(boxes) == count + 4 + 9
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= screen["width"]
        assert 0 <= top < bottom <= screen["height"]
    assert page.evaluate("document.documentElement.scrollHeight") <= screen["height"]


CROWDED = """() => [...document.querySelectorAll(".tile")].map(tile => {
    const headline = tile.querySelector(".headline"), middle = tile.querySelector(".middle"), text = headline.firstChild;
    const words = [...text.data.matchAll(/\\S+/g)].map(word => {
        const range = new Range();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        return range.getClientRects().length;
    });
    return [text.data, Math.max(...words), parseFloat(getComputedStyle(headline).fontSize),
            middle.scrollHeight - middle.clientHeight, middle.scrollWidth - middle.clientWidth];
})"""


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
@pytest.mark.parametrize("count", [4, 16, 32])
def test_what_boards_are_given_leaves_the_large_word_its_room(page, running_panel, screen, count):
    """With serial numbers and values on every tile the words are whole, readable from afar, and nothing of the deed is cut."""
    page.set_viewport_size(screen)
    given = (("serial", "WS-000002"), ("name", "kitchen sensor"), ("room", "second floor, left"))
    reasons = (
        Reason.NO_BOOT,
        Reason.SLOT_QUARANTINED,
        Reason.PROOF_NEEDED,
        Reason.GOLDEN_FAILED,
        Reason.FIRST_ARTICLE_RUNS,
    )
    states = [
        replace(passed("A1"), values=given),
        *(replace(ended("A1", reason, "A5"), values=given) for reason in reasons),
    ]
    slots = [replace(state, slot=label) for label, state in zip(LABELS[:count], itertools.cycle(states), strict=False)]
    show(page, running_panel, *slots)
    for headline, lines, size, below, beside in page.evaluate(CROWDED):
        assert (headline, lines, below, beside) == (headline, 1, 0, 0)
        assert size >= 14, (headline, size)


POSITIONS = """() => Object.fromEntries([...document.querySelectorAll(".tile")].map(each => {
    const box = each.getBoundingClientRect();
    return [each.dataset.slot, [Math.round(box.left), Math.round(box.top), Math.round(box.width), Math.round(box.height)]];
}))"""


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (2, 4), (2, 8), (4, 4), (3, 5)])
def test_tiles_stand_where_the_sockets_stand(page, running_panel, rows, columns):
    """Whatever the order they come in, a row letter is one row of the screen and a column number one column, unscrolled."""
    labels = [f"{letter}{number + 1}" for letter in "ABCD"[:rows] for number in range(columns)]
    show(page, running_panel, *(slot_view(label) for label in reversed(labels)))
    boxes = page.evaluate(POSITIONS)
    assert set(boxes) == set(labels)
    lefts, tops = (sorted({box[axis] for box in boxes.values()}) for axis in (0, 1))
    assert (len(tops), len(lefts)) == (rows, columns)
    found = {label: (tops.index(box[1]), lefts.index(box[0])) for label, box in boxes.items()}
    assert found == {label: divmod(number, columns) for number, label in enumerate(labels)}
    assert page.evaluate("document.documentElement.scrollHeight") <= 720


def test_what_has_no_place_in_the_grid_stands_below_it(page, running_panel):
    """A socket that is missing leaves its gap, a row of its own is a row, and other labels and strangers come after all."""
    strangers = [slot_view(port, Light.ACTION, "UNKNOWN", known=False) for port in ("A2", "3.4")]
    grid = [slot_view(label) for label in ("A1", "A3", "B2", "T1")]
    show(page, running_panel, strangers[1], slot_view("left"), *grid)
    boxes = page.evaluate(POSITIONS)
    lefts, tops = (sorted({box[axis] for box in boxes.values()}) for axis in (0, 1))
    found = {label: (tops.index(box[1]), lefts.index(box[0])) for label, box in boxes.items()}
    assert found == {"A1": (0, 0), "A3": (0, 2), "B2": (1, 1), "T1": (2, 0), "3.4": (3, 0), "left": (3, 1)}
    show(page, running_panel, strangers[0], slot_view("A1"), slot_view("A2", place="known"))
    tops_of = page.evaluate(
        """() => [...document.querySelectorAll('.tile[data-slot="A2"]')].map(
            each => [each.dataset.look, each.getBoundingClientRect().top])"""
    )
    assert min(tops_of, key=lambda each: each[1])[0] == "empty"


def test_labels_that_make_no_sensible_grid_are_packed(page, running_panel):
    """Labels that would leave most of a grid empty are laid out by size, all of them on the screen."""
    labels = ["A1", "B40", "C99"]
    show(page, running_panel, *(slot_view(label) for label in labels))
    boxes = page.evaluate(POSITIONS)
    assert list(boxes) == labels
    assert all(box[2] > 300 for box in boxes.values())


def test_a_phone_shows_every_tile_large_enough(browser, running_panel):
    """On a phone rows are folded in equal parts and the page scrolls down, never sideways; nothing is cut off."""
    page = browser.new_page(viewport={"width": 375, "height": 667}, reduced_motion="reduce")
    slots = [ended(f"{row}{number}", Reason.NOT_IN_DOWNLOAD_MODE) for row in "AB" for number in range(1, 9)]
    running_panel.bench.show(station_view(*slots, pending=[waiting(1)], notices=("a notice that is long",) * 3))
    page.goto(running_panel.url)
    expect(tile(page, "B8")).to_be_visible(timeout=PATIENCE_MS)
    boxes = page.evaluate(POSITIONS)
    assert {tuple(box[2:]) for box in boxes.values()} <= {(w, h) for w in range(160, 190) for h in range(140, 160)}
    assert [boxes["A2"][1], boxes["A3"][1]] == [boxes["A1"][1], boxes["A4"][1]]
    assert boxes["B1"][0] == boxes["A1"][0]
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    cut = page.evaluate(
        """() => [...document.querySelectorAll(".tile .middle")].filter(
            each => each.scrollHeight > each.clientHeight + 1).length"""
    )
    assert cut == 0
    page.close()


def test_warnings_are_folded_away(page, running_panel):
    """What doctor warns of is a number beside the station's name, and words and fix when it is asked for; no problem is."""
    expect(page.locator("#warnings")).to_be_hidden()
    markup = "<b>x</b>"
    found = (
        Diagnosis(check="backup", level=Level.WARNING, said="the newest backup is 30 h old", fix="station backup"),
        Diagnosis(check="hub", level=Level.WARNING, said=markup, fix="spread them"),
        Diagnosis(check="disk", level=Level.PROBLEM, said="the disk is full", fix="make room"),
    )
    show(page, running_panel, slot_view("A1"), diagnoses=found)
    expect(page.locator("#warnings-count")).to_have_text("2 warnings")
    expect(page.locator("#warnings-list")).to_be_hidden()
    page.locator("#warnings-count").click()
    said = page.locator("#warnings-list").inner_text().split("\n")
    assert [line for line in said if line] == [f"backup: {found[0].said}", found[0].fix, f"hub: {markup}", found[1].fix]
    show(page, running_panel, slot_view("A1"), diagnoses=found[2:])
    expect(page.locator("#warnings")).to_be_hidden()


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
def test_no_deed_is_ever_cut_off(page, running_panel, screen):
    """What the hand must do is whole and inside its tile for every reason there is, with thirty-two slots."""
    page.set_viewport_size(screen)
    long = "free_ram_bytes = 18432, allowed 24000…40000 (a very long particular of this case)"
    # An age beside the word and a list of boards beside the tiles leave the least room.
    ends = [(reason, SlotProperties()) for reason in Reason] + [(reason, SEATED) for reason in Reason]
    for first in range(0, len(ends), len(LABELS)):
        slots = [
            replace(
                ended(label, reason, long, properties=properties),
                unwatched=properties is SEATED,
                changed_at=ago(hours=3),
            )
            for label, (reason, properties) in zip(LABELS, ends[first:], strict=False)
        ]
        show(page, running_panel, *slots, notices=("a notice", "another"), pending=[waiting(1)])
        cut = page.evaluate(
            """() => [...document.querySelectorAll(".tile")].filter(tile => {
                const deed = tile.querySelector(".deed").getBoundingClientRect();
                const middle = tile.querySelector(".middle").getBoundingClientRect();
                return deed.bottom > middle.bottom + 1 || deed.right > middle.right + 1;
            }).map(tile => tile.dataset.slot + " " + tile.querySelector(".deed").textContent)"""
        )
        assert cut == []


def test_every_end_says_tray_and_deed(page, running_panel):
    """For every reason the tile shows the one big word of the closed list and says the deed, and says it once."""
    for reason in Reason:
        show(page, running_panel, ended("A1", reason, "DETAIL"))
        text = tile(page, "A1").locator(".middle").inner_text()
        deed, words = deed_for(reason, "DETAIL"), MEANINGS[reason].words
        assert tile(page, "A1").locator(".headline").inner_text() == headline_for(reason)
        assert tile(page, "A1").locator(".deed").inner_text() == deed
        assert text.count(deed) == 1 or deed in words.removesuffix(deed)


def test_already_done_is_no_plain_green(page, running_panel):
    """A board that passed before has its own word, shape and ground, and none of them is that of GOOD."""
    show(page, running_panel, passed("A1"), ended("A2", Reason.ALREADY_DONE))
    good, done = look_of(page, "A1"), look_of(page, "A2")
    assert done[3] == "ALREADY DONE"
    assert all(one != other for one, other in zip(good, done, strict=True))
    said = tile(page, "A2").locator(".middle").inner_text()
    assert [line for line in said.split("\n") if line] == ["ALREADY DONE", "unplug, put into GOOD"]


def test_a_result_that_may_be_the_past_shows_its_age(page, running_panel):
    """A PASS that cannot be watched says how old it is, counts up, and has neither GOOD's ground nor its full shape."""
    fresh, old = passed("A1"), unwatched(passed("A2"))
    show(page, running_panel, fresh, old)
    said = tile(page, "A2").locator(".said")
    age = seconds_in(said.locator(".age").inner_text())
    assert 40 <= age <= 40 + PATIENCE_MS / 1000
    assert re.fullmatch(r"GOOD\s*\d+ s ago", said.inner_text())
    page.wait_for_function(
        """age => parseInt(document.querySelector('.tile[data-slot="A2"] .age').textContent) > age""", arg=age
    )
    looks = [look_of(page, slot) for slot in ("A1", "A2")]
    assert looks[0][1] != looks[1][1]
    fills = page.evaluate(
        """() => ["A1", "A2"].map(slot => getComputedStyle(
            document.querySelector(`.tile[data-slot="${slot}"] .top svg`)).getPropertyValue("--body"))"""
    )
    assert fills == ["", "transparent"]
    assert tile(page, "A1").locator(".age").inner_text() == ""
    running_panel.bench.change(passed("A2"))
    expect(tile(page, "A2").locator(".age")).to_have_text("")
    assert look_of(page, "A2")[1] == looks[0][1]


def test_ages_are_the_stations(browser, running_panel):
    """A browser whose clock is a year off shows the same ages: they count from the station's time."""
    page = browser.new_page()
    page.add_init_script("Date.now = () => 0")
    running_panel.bench.show(
        station_view(unwatched(passed("A1"), 40), pending=[waiting(1, since=ago(hours=5, minutes=2))])
    )
    page.goto(running_panel.url)
    expect(page.locator("#pending-boards .age")).to_have_text(re.compile(r"5 h [2-9] min"), timeout=PATIENCE_MS)
    assert seconds_in(tile(page, "A1").locator(".age").inner_text()) >= 40
    page.close()


def test_boards_that_wait_are_listed(page, running_panel):
    """Each board that is flashed and not tested stands beside the tiles with all that is known of it; none, and nothing."""
    expect(page.locator("#pending")).to_be_hidden()
    boards = [
        waiting(1, since=ago(days=1, hours=3), slot="A3"),
        waiting(2, since=ago(minutes=12, seconds=5), reason=Reason.AWAITS_TEST_SLOT),
        waiting(3, since=ago(seconds=7), reason=Reason.TEST_INTERRUPTED),
    ]
    show(page, running_panel, slot_view("A1"), pending=boards)
    rows = [row.split("\n") for row in page.locator("#pending-boards li").all_inner_texts()]
    assert [row[0] for row in rows] == [board.mac for board in boards]
    assert [row[1] for row in rows[:2]] == ["1 d 3 h", "12 min"]
    assert rows[0][2] == "0x00a10001 · A3 · Lamp controller"
    assert [row[3] for row in rows] == [
        "take GPIO0 off GND and plug in again",
        "next, test slot T1",
        "taken out during the test: flashed, not tested, do not ship",
    ]
    expect(page.locator("#pending-title")).to_have_text("3 flashed, not tested")
    expect(page.locator("#pending-more")).to_have_text("")
    age = seconds_in(rows[2][1])
    page.wait_for_function(
        "age => parseInt(document.querySelector('#pending-boards li:last-child .age').textContent) > age", arg=age
    )
    show(page, running_panel, slot_view("A1"))
    expect(page.locator("#pending")).to_be_hidden()


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
def test_boards_beyond_the_list_are_counted(page, running_panel, screen):
    """With more boards than there is room for, or than the view holds, the rest is a number and no row is cut in two."""
    page.set_viewport_size(screen)
    show(page, running_panel, slot_view("A1"), pending=[waiting(100 - n) for n in range(PENDING_SHOWN + 10)])
    shown = page.evaluate(
        """() => { const list = document.getElementById("pending-boards");
        const rows = [...list.children].filter(row => !row.hidden);
        const whole = rows.filter(row => row.getBoundingClientRect().bottom <= list.getBoundingClientRect().bottom + 1);
        const wide = rows.filter(row => row.scrollWidth > row.clientWidth + 1);
        return [rows.length, whole.length, wide.length, rows[0].querySelector("b").textContent]; }"""
    )
    assert 5 < shown[0] == shown[1] < PENDING_SHOWN
    assert shown[2:] == [0, waiting(100).mac]
    expect(page.locator("#pending-more")).to_have_text(f"and {PENDING_SHOWN + 10 - shown[0]} more")
    expect(page.locator("#pending-count")).to_have_text(str(PENDING_SHOWN + 10))


def test_modules_booked_out_by_hand_stand_beside_the_lot(page, running_panel):
    """The number of rejected modules is in the header, and nothing is there when there are none."""
    expect(page.locator("#rejected")).to_be_hidden()
    show(page, running_panel, slot_view("A1"), rejected_count=3)
    expect(page.locator("#rejected")).to_have_text("⊘ 3 rejected by hand")


def test_a_test_slot_is_found_by_its_label(page, running_panel):
    """A test slot's label is larger than another's, on a plate, and looks the same where a deed sends a board to it."""
    test_slot = slot_view("T1", properties=in_words(TEST_SLOT))
    sent = ended("A2", Reason.AWAITS_TEST_SLOT, "T1 or T9", properties=SEATED)
    show(page, running_panel, slot_view("A1", properties=in_words(SEATED)), sent, test_slot)
    style = """([slot, part, name]) => getComputedStyle(
        document.querySelector(`.tile[data-slot="${slot}"] ${part}`)).getPropertyValue(name)"""
    sizes = [float(page.evaluate(style, [slot, ".label", "font-size"])[:-2]) for slot in ("A1", "T1")]
    assert sizes[1] > sizes[0] * 1.15
    plates = [page.evaluate(style, [*where, "background-color"]) for where in (("T1", ".label"), ("A2", ".deed b"))]
    assert plates[0] == plates[1] != page.evaluate(style, ["A1", ".label", "background-color"])
    assert tile(page, "A2").locator(".deed").inner_text() == sent.deed
    assert tile(page, "A2").locator(".deed b").all_inner_texts() == ["T1"]
    assert [tile(page, slot).locator(".role").text_content() for slot in ("A1", "A2", "T1")] == ["", "", "test"]


def test_what_a_slot_is_stands_in_small_print(page, running_panel):
    """An empty tile says what its slot is; on any other it is one hover away, with the whole words and the cause."""
    properties = in_words(SEATED)
    result = ended("A2", Reason.NO_BOOT, properties=SEATED)
    show(page, running_panel, slot_view("A1", properties=properties), result)
    assert tile(page, "A1").locator(".ids").inner_text() == properties
    assert tile(page, "A1").get_attribute("title") == properties
    assert tile(page, "A2").get_attribute("title") == f"{result.words}\n{result.cause}\n{properties}"
    assert tile(page, "A2").locator(".ids").inner_text().split() == [result.mac, result.chip_id]


def test_the_mac_leads_to_the_page_of_its_board(page, running_panel):
    """A board's MAC is a link to everything on record about it, also when the next board came; without one there is none."""
    show(page, running_panel, passed("A1"), slot_view("A2"))
    link = tile(page, "A1").locator(".ids a")
    assert link.get_attribute("href") == "/board/5c%3Acf%3A7f%3Add%3Ac1%3A42"
    assert not tile(page, "A2").locator(".ids a").is_visible()
    show(page, running_panel, passed("A1", mac="5c:cf:7f:00:00:01"), slot_view("A2"))
    expect(link).to_have_attribute("href", "/board/5c%3Acf%3A7f%3A00%3A00%3A01")


def test_what_a_board_was_given_stands_beside_its_mac(page, running_panel):
    """Serial number and values of the board that lies there; nothing where it was given nothing, and no markup of theirs."""
    given = (("serial", "SN000017"), ("place", "<b>Küche</b>"))
    show(page, running_panel, replace(ended("A1", Reason.NO_BOOT), values=given), ended("A2", Reason.NO_BOOT))
    assert tile(page, "A1").locator(".values").inner_text() == "serial\xa0SN000017 · place\xa0<b>Küche</b>"
    assert tile(page, "A1").locator(".values b").count() == 0
    assert not tile(page, "A2").locator(".values").is_visible()


def test_every_text_stands_out_from_its_ground(page, running_panel):
    """Word, words and deed of every state have the contrast that WCAG asks of small text: 4.5 to 1, of large text 3 to 1."""
    states = every_state()
    aged = [replace(unwatched(state), slot=f"U{number}") for number, state in enumerate(states) if state.outcome]
    show(page, running_panel, *states, *aged, pending=[waiting(1)])
    faint = page.evaluate(
        """() => {
        const brush = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        const paint = (colours) => { brush.clearRect(0, 0, 1, 1); for (const each of colours) { brush.fillStyle = each;
            brush.fillRect(0, 0, 1, 1); } return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3); };
        const light = (rgb) => { const [r, g, b] = rgb.map(each => each / 255).map(
            each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4); return 0.2126*r + 0.7152*g + 0.0722*b; };
        const grounds = (each) => { const all = []; for (let at = each; at; at = at.parentElement)
            all.unshift(getComputedStyle(at).backgroundColor); return all; };
        const texts = ".headline, .words, .deed, .deed b, .age, .where, .who b, #pending-title, #lot, #legend span";
        return [...document.querySelectorAll(texts)].filter(each => each.textContent && each.offsetParent).map(each => {
            const [one, other] = [paint(grounds(each)), paint([...grounds(each), getComputedStyle(each).color])].map(light);
            const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
            const wanted = parseFloat(getComputedStyle(each).fontSize) >= 24 ? 3 : 4.5;
            return ratio < wanted ? `${each.className} ${each.textContent} ${ratio.toFixed(2)}` : "";
        }).filter(Boolean); }"""
    )
    assert faint == []


def test_hostile_text_is_inert(page, running_panel):
    """Markup from a board is shown as the text it is, control characters as what they are, and floods are cut."""
    markup = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">'
    hostile = slot_view(
        "A1",
        Light.FAIL,
        "BAD",
        words=f"{markup}\x1b[31mred\x00\u202etxet",
        deed="unplug",
        mac=markup,
        note="x",
        cause=markup,
    )
    flood = slot_view("A2", Light.FAIL, "BAD", words="A" * 100_000, deed="unplug")
    stranger = replace(waiting(1), product=markup, words=markup, mac="A" * 100_000)
    everywhere = {"product": markup, "lot_person": markup, "station_id": markup}
    show(page, running_panel, hostile, flood, notices=(markup,), pending=[stranger], **everywhere)
    words = tile(page, "A1").locator(".words").text_content()
    assert words == rf"{markup}\u001b[31mred\u0000\u202etxet"
    assert page.locator("#product").text_content() == markup
    assert page.locator("#notices").text_content() == markup
    assert page.locator("#slots script, #slots img, #notices img, #station img, #pending img").count() == 0
    assert page.locator("#pending .words").text_content() == markup
    assert page.evaluate("window.pwned") is None
    assert len(tile(page, "A2").locator(".words").text_content() or "") == 300


def test_header_says_what_is_made(page, running_panel):
    """Product, recipe version and short hash, lot, person and station are on screen, and so is their absence."""
    show(page, running_panel, passed("A1"), recipe_version="v1.4.2")
    assert re.sub(r"\s+", " ", page.locator("#station").inner_text()).startswith(
        "Lamp controller v1.4.2 3fa91c0e ● lot open · Anna bench-1 "
    )
    running_panel.bench.show(station_view(passed("A1"), recipe_version="9"))
    expect(page.locator("#recipe-version")).to_have_text("v9")
    nothing = {"product": "", "recipe_version": "", "recipe_hash": "", "lot_state": "", "lot_person": ""}
    show(page, running_panel, slot_view("A1"), **nothing, ready=False, notices=("No recipe: set work.recipe.",))
    expect(page.locator("#product")).to_have_text("NO RECIPE")
    expect(page.locator("#lot")).to_have_text("○ no lot")
    expect(page.locator("#notices")).to_have_text("No recipe: set work.recipe.")
    show(page, running_panel, slot_view("A1"), lot_state="paused")
    expect(page.locator("#lot")).to_contain_text("lot paused")
    expect(page.locator("#notices")).to_be_hidden()


def test_calm_is_not_silence(page, running_panel):
    """A page on which nothing happens for longer than the silence limit stays live."""
    page.evaluate("""() => { window.losses = 0; new MutationObserver(() => {
        if (document.body.dataset.link !== "live") window.losses += 1; }).observe(document.body, {attributes: true}); }""")
    time.sleep(3.5)
    assert page.evaluate("window.losses") == 0
    assert page.locator("body").get_attribute("data-link") == "live"


def assert_nothing_shows_but_the_loss(page: Page) -> None:
    """No result may be visible, in no colour."""
    expect(page.locator("#lost")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#lost .what")).to_have_text("NO CONNECTION")
    expect(tile(page, "A1")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(139, 146, 153)"


def test_a_stopped_station_leaves_no_green(page, running_panel):
    """When the station stops the whole page says NO CONNECTION, and when it is back it shows its new state."""
    show(page, running_panel, passed("A1"))
    running_panel.stop()
    assert_nothing_shows_but_the_loss(page)
    again = RunningPanel(FakeBench(station_view(slot_view("A1"))), listen=str(running_panel.address))
    again.start()
    try:
        expect(page.locator("body")).to_have_attribute("data-link", "live", timeout=PATIENCE_MS)
        assert look_of(page, "A1")[3] == "EMPTY"
        expect(page.locator("#lost")).to_be_hidden()
    finally:
        again.stop()


def test_a_hanging_station_leaves_no_green(page, running_panel):
    """A station that keeps the connection but says nothing any more is lost as well, until it speaks again."""
    show(page, running_panel, passed("A1"))
    loop = running_panel.bench.loop
    assert loop is not None
    loop.call_soon_threadsafe(time.sleep, 6)
    assert_nothing_shows_but_the_loss(page)
    expect(page.locator("body")).to_have_attribute("data-link", "live", timeout=PATIENCE_MS)
    assert look_of(page, "A1")[3] == "GOOD"


def test_a_broken_page_shows_nothing(browser, running_panel):
    """If the page's own script fails, it shows no result any more, not even for a moment at each new state."""
    page = browser.new_page()
    page.goto(running_panel.url)
    running_panel.bench.show(station_view(passed("A1")))
    expect(tile(page, "A1")).to_be_visible(timeout=PATIENCE_MS)
    breakage = "Element.prototype.setAttribute = () => { throw new Error('another shape of state'); }; 0"
    page.add_init_script(breakage)  # it loads itself anew after a while, and is broken again
    page.evaluate(breakage)
    assert_nothing_shows_but_the_loss(page)
    page.evaluate("""() => { window.returns = 0; new MutationObserver(() => {
        if (document.body.dataset.link === "live") window.returns += 1; }).observe(document.body, {attributes: true}); }""")
    time.sleep(2.5)
    assert not page.evaluate("window.returns")
    page.close()
