"""The operator's page in Debian's Chromium: what a person sees in every state, and when the station is gone."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from station.model import Light, Phase, SlotView
from station.reasons import MEANINGS, Reason
from tests.panel.doubles import FakeBench, RunningPanel, busy, ended, passed, slot_view, station_view

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
    )


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
    """The green ground belongs to the light PASS, whatever else a slot says of itself."""
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
    show(page, running_panel, passed("A1"), *liars)
    green = look_of(page, "A1")[1].split(")")[0]
    assert [slot.slot for slot in liars if look_of(page, slot.slot)[1].split(")")[0] == green] == []


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
@pytest.mark.parametrize("count", [1, 8, 32])
def test_fits_one_screen(page, running_panel, screen, count):
    """From one to thirty-two slots everything is on the screen at once: nothing scrolls, nothing overlaps the edge."""
    page.set_viewport_size(screen)
    slots = [ended(label, Reason.NO_ANSWER) for label in LABELS[:count]]
    show(page, running_panel, *slots, notices=("The status light does not answer: check its cable.",) * 5)
    boxes = page.evaluate(
        """() => [...document.querySelectorAll(".tile, #station, #notices, #legend")].map(
            each => { const box = each.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; })"""
    )
    assert len(boxes) == count + 3
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= screen["width"]
        assert 0 <= top < bottom <= screen["height"]
    assert page.evaluate("document.documentElement.scrollHeight") <= screen["height"]


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: str(screen["width"]))
def test_no_deed_is_ever_cut_off(page, running_panel, screen):
    """What the hand must do is whole and inside its tile for every reason there is, with thirty-two slots."""
    page.set_viewport_size(screen)
    reasons = list(Reason)
    for first in range(0, len(reasons), len(LABELS)):
        slots = [
            ended(label, reason, "free_ram_bytes = 18432, allowed 24000…40000 (a very long particular of this case)")
            for label, reason in zip(LABELS, reasons[first:], strict=False)
        ]
        show(page, running_panel, *slots, notices=("a notice", "another"))
        cut = page.evaluate(
            """() => [...document.querySelectorAll(".tile")].filter(tile => {
                const deed = tile.querySelector(".deed").getBoundingClientRect();
                const middle = tile.querySelector(".middle").getBoundingClientRect();
                return deed.bottom > middle.bottom + 1 || deed.right > middle.right + 1;
            }).map(tile => tile.dataset.slot + " " + tile.querySelector(".deed").textContent)"""
        )
        assert cut == []


def test_every_end_says_tray_and_deed(page, running_panel):
    """For every reason with a tray the tile names it in the large word and says the deed, and says it once."""
    for reason in Reason:
        show(page, running_panel, ended("A1", reason, "DETAIL"))
        text = tile(page, "A1").locator(".middle").inner_text()
        meaning = MEANINGS[reason]
        if meaning.tray.value != "-":
            assert tile(page, "A1").locator(".headline").inner_text() == meaning.tray.value
        assert tile(page, "A1").locator(".deed").inner_text() == meaning.deed
        assert text.count(meaning.deed) == 1 or meaning.deed in meaning.words.removesuffix(meaning.deed)


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
    show(page, running_panel, hostile, flood, product=markup, notices=(markup,), lot_person=markup, station_id=markup)
    words = tile(page, "A1").locator(".words").text_content()
    assert words == rf"{markup}\u001b[31mred\u0000\u202etxet"
    assert page.locator("#product").text_content() == markup
    assert page.locator("#notices").text_content() == markup
    assert page.locator("#slots script, #slots img, #notices img, #station img").count() == 0
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
