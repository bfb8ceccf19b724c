"""When a hub is disturbed: three slots lost within two seconds, one of them at work, and never by an operator's fast hands."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.hubs import SLOTS, STILL_S, WITHIN_S, HubNews, Hubs, hubs_of, short_hub
from tests.unit.scripted_board import Clock

ROOT = "pci-0000:00:14.0-usb-0"
HUB, OTHER, BEHIND = f"{ROOT}:2", f"{ROOT}:3", f"{ROOT}:2.7"


def port(hub: str, number: int) -> str:
    """The place at this port of a hub."""
    return f"{hub}.{number}:1.0"


PLACES = [port(HUB, number) for number in range(1, 6)]


def occupied(*places: str) -> tuple[Hubs, Clock]:
    """Hubs with programmers in these places, for long enough to be still."""
    clock = Clock()
    hubs = Hubs(clock)
    for place in places or PLACES:
        hubs.plugged(place)
    clock.now_s += 100.0
    return hubs, clock


def lose(hubs: Hubs, *places: str) -> None:
    """Programmers vanish from under their visits."""
    for place in places:
        hubs.unplugged(place, lost=True, in_visit=True)


@pytest.mark.parametrize(
    ("place", "hubs"),
    [
        (f"{ROOT}:2.3:1.0", (f"{ROOT}:2",)),
        (f"{ROOT}:2.4.1:1.0", (f"{ROOT}:2.4", f"{ROOT}:2")),
        (f"{ROOT}:2.4.1:1.0:3", (f"{ROOT}:2.4", f"{ROOT}:2")),
        (f"{ROOT}:3:1.0", (ROOT,)),
        (
            "platform-fd500000.pcie-pci-0000:01:00.0-usbv2-0:1.2:1.0",
            ("platform-fd500000.pcie-pci-0000:01:00.0-usbv2-0:1",),
        ),
        ("platform-serial8250", ("platform-serial8250",)),
    ],
)
def test_the_hubs_of_a_place_are_its_ports_but_the_last(place: str, hubs: tuple[str, ...]) -> None:
    """The nearest hub first; without a hub the root hub; what is no USB path is alone."""
    assert hubs_of(place) == hubs


def test_a_hub_has_a_name_for_people() -> None:
    """The ports it hangs at, or that there is none."""
    assert [short_hub(hub) for hub in (f"{ROOT}:2.4", ROOT)] == ["hub 2.4", "root hub"]


def test_three_visits_lost_at_once_are_one_event() -> None:
    """One piece of news names the hub and all that was lost, however many; ten seconds without a plug or pull end it."""
    hubs, clock = occupied()
    lose(hubs, *PLACES)
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset(PLACES)),)
    assert hubs.news() == ()
    assert {hubs.disturbed(place) for place in PLACES} == {HUB}
    assert hubs.disturbed(port(OTHER, 1)) == ""
    clock.now_s += STILL_S - 0.01
    assert hubs.disturbed(PLACES[0]) == HUB
    clock.now_s += 0.02
    assert hubs.disturbed(PLACES[0]) == ""
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset()),)


def test_whatever_is_plugged_or_pulled_keeps_it_disturbed() -> None:
    """Each attach and each detach behind the hub begins the ten seconds anew; one behind another hub does not."""
    hubs, clock = occupied()
    lose(hubs, *PLACES)
    for _ in range(5):
        clock.now_s += STILL_S - 1
        hubs.plugged(PLACES[0])
        clock.now_s += STILL_S - 1
        hubs.unplugged(PLACES[0], lost=False)
    assert hubs.disturbed(PLACES[1]) == HUB
    clock.now_s += STILL_S - 1
    hubs.plugged(port(OTHER, 1))
    clock.now_s += 1
    assert hubs.disturbed(PLACES[1]) == ""


def test_two_are_two_pulls() -> None:
    """Two lost slots are no event, and after two seconds whoever asked knows it."""
    hubs, clock = occupied()
    since_s = clock()
    lose(hubs, *PLACES[:2])
    assert hubs.verdict(PLACES[0], since_s) is None
    clock.now_s += WITHIN_S
    assert hubs.verdict(PLACES[0], since_s) is False
    lose(hubs, PLACES[2])
    clock.now_s += WITHIN_S / 2
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset(PLACES[:3])),)


def test_the_third_within_two_seconds_is_the_event_for_the_first_too() -> None:
    """Who asked while it was open gets the answer as soon as there is one."""
    hubs, clock = occupied()
    since_s = clock()
    lose(hubs, PLACES[0])
    clock.now_s += 1.0
    lose(hubs, PLACES[1])
    assert hubs.verdict(PLACES[0], since_s) is None
    clock.now_s += 0.9
    lose(hubs, PLACES[2])
    assert hubs.verdict(PLACES[0], since_s) is True


def test_a_slot_whose_port_closes_slowly_hears_of_the_event_afterwards() -> None:
    """The close of a port that drains takes 31 s: whoever lost its line in the event is told so although it is over by then."""
    hubs, clock = occupied()
    since_s = clock()
    lose(hubs, *PLACES[:3])
    clock.now_s += 31.0
    assert hubs.disturbed(PLACES[0]) == ""
    assert hubs.verdict(PLACES[0], since_s) is True
    assert hubs.verdict(PLACES[0], clock()) is False
    assert hubs.verdict(port(OTHER, 1), since_s) is False


def test_slower_than_two_seconds_is_never_an_event() -> None:
    """A hand that pulls one running board after the other aborts each of them, and disturbs nothing."""
    hubs, clock = occupied()
    for place in PLACES:
        lose(hubs, place)
        clock.now_s += WITHIN_S / 2 + 0.1
    assert hubs.news() == ()


def test_results_that_are_pulled_are_daily_work() -> None:
    """However fast: a programmer pulled from its result is not lost, so even a running one pulled with them is a pull."""
    hubs, clock = occupied()
    for place in PLACES[1:]:
        hubs.unplugged(place, lost=False)
    lose(hubs, PLACES[0])
    assert hubs.verdict(PLACES[0], clock()) is False
    assert hubs.news() == ()


def test_without_a_visit_nothing_is_an_event() -> None:
    """Waiting sticks and empty fixtures that vanish together harm no board; with one visit among them they do."""
    hubs, _ = occupied()
    for place in PLACES[1:]:
        hubs.unplugged(place, lost=True)
    assert hubs.news() == ()
    lose(hubs, PLACES[0])
    assert [news.hub for news in hubs.news()] == [HUB]


def test_nobody_waits_where_fewer_than_three_are_plugged_in() -> None:
    """With two programmers behind a hub there is nothing to wait for."""
    hubs, clock = occupied(*PLACES[:2])
    lose(hubs, PLACES[0])
    assert hubs.verdict(PLACES[0], clock()) is False


def test_hubs_that_know_no_programmer_are_never_disturbed() -> None:
    """Away from the bench, as `station flash` works, the answer is no, at once, whatever breaks."""
    clock = Clock()
    hubs = Hubs(clock)
    hubs.broke(PLACES[0])
    assert hubs.verdict(PLACES[0], clock()) is False


def test_a_line_that_broke_and_the_pull_that_is_seen_are_one_loss() -> None:
    """The visit's thread and the look at sysfs both say so; two slots stay two."""
    hubs, _ = occupied()
    for place in PLACES[:2]:
        hubs.broke(place)
        lose(hubs, place)
    assert hubs.news() == ()
    hubs.broke(PLACES[2])
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset(PLACES[:3])),)


def test_a_hub_behind_a_hub_is_part_of_it() -> None:
    """A box of seven sockets is two hubs in a row: what is lost behind both of them is one event of the outer one."""
    inner, outer = [port(BEHIND, 1), port(BEHIND, 2)], [PLACES[0]]
    hubs, _ = occupied(*inner, *outer)
    lose(hubs, *inner, *outer)
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset([*inner, *outer])),)
    assert hubs.disturbed(port(BEHIND, 3)) == HUB


def test_an_event_of_the_inner_hub_becomes_one_of_the_outer() -> None:
    """The inner hub's three come first and the outer's after them: one event all the same."""
    inner, outer = [port(BEHIND, number) for number in (1, 2, 3)], PLACES[:2]
    hubs, clock = occupied(*inner, *outer)
    lose(hubs, *inner, *outer)
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset([*inner, *outer])),)
    clock.now_s += STILL_S
    assert hubs.news() == (HubNews(hub=HUB, places=frozenset()),)


def test_an_inner_hub_alone_leaves_the_outer_one_alone() -> None:
    """What is lost behind one hub of a chain says nothing about the sockets beside it."""
    inner = [port(BEHIND, number) for number in (1, 2, 3)]
    hubs, _ = occupied(*inner, *PLACES)
    lose(hubs, *inner)
    assert (hubs.disturbed(inner[0]), hubs.disturbed(PLACES[0])) == (BEHIND, "")


def test_sockets_of_the_root_hub_share_it_and_hubs_do_not() -> None:
    """Programmers at the machine's own ports are one hub; a hub that hangs beside them is not disturbed with them."""
    own = [f"{ROOT}:{number}:1.0" for number in (4, 5, 6)]
    hubs, _ = occupied(*own, *PLACES)
    lose(hubs, *own)
    assert (hubs.disturbed(own[0]), hubs.disturbed(PLACES[0])) == (ROOT, "")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["plug", "lose", "lose", "idle", "pull", "break"]),
        st.sampled_from([*PLACES, port(BEHIND, 1), port(BEHIND, 2), port(OTHER, 1)]),
        st.sampled_from([0.0, 0.1, 0.7, 1.9, 2.5, 9.0, 11.0]),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_in_any_order_an_event_has_three_lost_slots_and_an_end(steps: list[tuple[str, str, float]]) -> None:
    """At most one event per hub until it is still, of three losses in two seconds, one in a visit; all end by themselves."""
    clock = Clock()
    hubs = Hubs(clock)
    lost: list[tuple[float, str, bool]] = []
    open_events: set[str] = set()
    over: list[tuple[str, float]] = []
    for what, place, pause_s in steps:
        clock.now_s += pause_s
        for news in hubs.news():
            assert not news.places, "nothing happened but time"
            open_events.discard(news.hub)
            over.append((news.hub, clock()))
        match what:
            case "plug":
                hubs.plugged(place)
            case "lose" | "idle":
                lost.append((clock(), place, what == "lose"))
                hubs.unplugged(place, lost=True, in_visit=what == "lose")
            case "pull":
                hubs.unplugged(place, lost=False)
            case _:
                lost.append((clock(), place, True))
                hubs.broke(place)
        for news in hubs.news():
            recent = [one for one in lost if clock() - one[0] <= WITHIN_S and news.hub in hubs_of(one[1])]
            assert len({place for _, place, _ in recent}) >= SLOTS
            assert any(in_visit for _, place, in_visit in recent)
            assert news.hub not in open_events
            # An inner hub's event may have become the outer's.
            open_events = {hub for hub in open_events if not hub.startswith(f"{news.hub}.")} | {news.hub}
        for each in PLACES:
            assert bool(hubs.disturbed(each)) == bool(open_events & set(hubs_of(each)))
            asked = hubs.verdict(each, clock() - WITHIN_S - 0.01)
            assert asked is not None
            assert asked or not hubs.disturbed(each)
            just_over = {hub for hub, at_s in over if clock() - at_s <= WITHIN_S + 0.02}
            assert asked == bool(hubs.disturbed(each)) or just_over & set(hubs_of(each))
    clock.now_s += STILL_S + 0.01
    assert {news.hub for news in hubs.news()} == open_events
    assert hubs.all_disturbed() == {}
