"""The life of one slot, driven by hand: every event in every state, and green for nothing but a committed PASS."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.config import FlashingSection
from station.errors import LineStopped
from station.lookout import Looks
from station.model import (
    BootEvidence,
    CommittedJob,
    HostFacts,
    JobEnd,
    JobStart,
    JobState,
    Light,
    Lot,
    LotState,
    Outcome,
    Phase,
    Plug,
    Programmer,
    StopCause,
    VisitEnd,
)
from station.ports import Stop
from station.presence import Left, Seated, Seen
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties
from station.reasons import MEANINGS, Reason
from station.slot import Bench, Slot
from station.transitions import GATES, LIGHTS, RESULTS, TRANSITIONS, Blocked, SlotEvent, SlotState, event_of
from station.views import Progress, SlotView
from station.visit import Finding, Held, JobRow, VisitResult
from tests.unit.scripted_board import Clock

NOW = datetime(2025, 11, 22, tzinfo=UTC)
FLASHING = FlashingSection(progress_deadline_s=30.0, job_deadline_s=300.0)
T = TypeVar("T")


def programmer(generation: str = "1") -> Programmer:
    """One attach."""
    return Programmer(place="hub:1", node=f"/dev/ttyUSB{generation}", sysfs_path="", generation=generation)


def job(
    state: JobState = JobState.CLOSED, outcome: Outcome | None = Outcome.PASS, reason: str = "", detail: str = ""
) -> CommittedJob:
    """A row as it was read back."""
    return CommittedJob(
        id="job-1",
        slot="A1",
        mac="5c:cf:7f:dd:c1:42",
        chip_id=0xDDC142,
        state=state,
        outcome=outcome,
        reason=reason,
        detail=detail,
        phases=(),
        measurements=(),
    )


def held(plug: Plug) -> Held:
    """A result that is on no record yet."""
    lot = Lot(id="l", recipe_hash="h", product="p", person="x", state=LotState.OPEN, standing=True)
    facts = HostFacts(
        station_id="s", station_version="", esptool_version="", kernel_version="", boot_id="", clock_synchronised=None
    )
    start = JobStart(
        id="job-1",
        visit_id="v",
        started_at=NOW,
        plug=plug,
        lot=lot,
        identity=None,
        observed_mac="",
        flash=None,
        firmware_sha256="",
        operator="",
        host=facts,
        attempt=1,
    )
    end = JobEnd(
        state=JobState.CLOSED,
        outcome=Outcome.PASS,
        reason="",
        detail="",
        ended_at=NOW,
        duration_s=1.0,
        phases=(),
        measurements=(),
        baud_used=None,
        baud_fallbacks=0,
        boot_evidence=None,
        flash_touched=True,
        flash_mode="dout",
        bytes_flashed=1,
        transcript=b"",
    )
    visit_end = VisitEnd(ended_at=NOW, job_id="job-1", finding="", detail="")
    return Held(rows=(JobRow(start=start, end=end, begun=True),), visit_end=visit_end)


def finding(reason: Reason, detail: str = "") -> Finding:
    """A visit without a job."""
    return Finding(visit_id="v", reason=reason, detail=detail)


PASS = job()
FAIL = job(outcome=Outcome.FAIL, reason="no_boot")


@dataclass
class Going:
    """One visit that the slot has begun."""

    plug: Plug
    stop: Stop
    tell: Callable[[Progress], None]
    result: asyncio.Future[VisitResult]


@dataclass
class Look:
    """One look into the socket that the slot has begun: `board`, `departure`, or the MAC that is asked for."""

    kind: str
    programmer: Programmer
    asked_with: Stop
    seated: Seated | None
    result: asyncio.Future[Any]

    def stop(self, cause: StopCause) -> None:
        """Its line is taken away."""
        if not self.result.done():
            self.result.set_exception(LineStopped(cause))


@dataclass
class Stage:
    """What a slot needs around it, with every light it showed and every visit it began."""

    clock: Clock = field(default_factory=Clock)
    gate: Blocked | None = None
    bar: Blocked | None = None
    going: list[Going] = field(default_factory=list)
    lights: list[Light] = field(default_factory=list)
    ended: list[VisitResult] = field(default_factory=list)
    broken: list[BaseException] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    fails_when_ended: Exception | None = None
    looks: list[Look] = field(default_factory=list)

    def slot(self, *, known: bool = True, properties: SlotProperties | None = None) -> Slot:
        """A slot on this stage."""
        return Slot(
            "A1",
            "hub:1",
            Bench(
                blocked=lambda _label: self.gate,
                start_visit=self._start,
                looks=Looks(
                    await_board=lambda programmer, _properties, stop: self._look("board", programmer, stop),
                    await_departure=lambda programmer, _properties, stop, seated: self._look(
                        "departure", programmer, stop, seated
                    ),
                    still_there=lambda programmer, _properties, stop, mac: self._look(mac, programmer, stop),
                ),
                changed=lambda slot: self.lights.append(shows(slot)),
                ended=self._ended,
                broken=lambda _slot, error: self.broken.append(error),
                stuck=lambda slot: self.stuck.append(slot.label),
                released=self.released.append,
                settings=FLASHING,
                clock=self.clock,
                now=lambda: NOW,
                barred=lambda _label: self.bar,
            ),
            properties=properties,
            known=known,
        )

    def _look(self, kind: str, programmer: Programmer, stop: Stop, seated: Seated | None = None) -> Awaitable[Any]:
        look = Look(kind, programmer, stop, seated, asyncio.get_running_loop().create_future())
        self.looks.append(look)
        stop.attach(look)  # type: ignore[arg-type]
        return look.result

    async def sees(self, what: object) -> None:
        """Let the look that is going on end with this."""
        self.looks[-1].result.set_result(what)
        await settle()

    async def _start(self, plug: Plug, stop: Stop, tell: Callable[[Progress], None]) -> VisitResult:
        self.going.append(Going(plug, stop, tell, asyncio.get_running_loop().create_future()))
        return await self.going[-1].result

    def _ended(self, slot: Slot, plug: Plug, result: VisitResult) -> None:
        self.ended.append(result)
        if self.fails_when_ended is not None:
            raise self.fails_when_ended

    async def end(self, result: VisitResult | Exception) -> None:
        """Let the visit that is going end."""
        future = self.going[-1].result
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
        await settle()


async def settle() -> None:
    """Let everything happen that is due."""
    for _ in range(6):
        await asyncio.sleep(0)


def run(story: Callable[[Stage, Slot], Awaitable[T]], properties: SlotProperties | None = None) -> T:
    """Play a story on the event loop."""

    async def main() -> T:
        stage = Stage()
        return await story(stage, stage.slot(properties=properties))

    return asyncio.run(main())


def shows(slot: Slot) -> Light:
    """The light of a slot; a function, so that mypy does not take it for constant."""
    return slot.light


def state_of(slot: Slot) -> SlotState:
    """The state of a slot; a function for the same reason."""
    return slot.state


async def plugged(slot: Slot, generation: str = "1") -> None:
    """Plug a programmer in and let its visit begin."""
    slot.plugged(programmer(generation))
    await settle()


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), list(itertools.product(SlotState, SlotEvent)))
def test_every_pair_leads_to_a_light_and_only_passed_to_green(state: SlotState, event: SlotEvent) -> None:
    """Where an event leads from a state there is a light, and the green one is reached by PASSED and by nothing else."""
    target = TRANSITIONS.get((state, event))
    if target is None:
        return
    assert isinstance(LIGHTS[target], Light)
    assert (LIGHTS[target] is Light.PASS) == (event is SlotEvent.PASSED and target is SlotState.PASS)


def test_every_state_has_a_light_of_its_own_and_green_belongs_to_one() -> None:
    """No state is dark, and the green light means exactly one of them."""
    assert set(LIGHTS) == set(SlotState)
    assert [state for state, light in LIGHTS.items() if light is Light.PASS] == [SlotState.PASS]


def test_every_state_can_be_reached_and_left() -> None:
    """From EMPTY every state is reached, and from every state a slot gets back to where a board can be plugged in."""

    def reachable(state: SlotState) -> set[SlotState]:
        found, edge = {state}, [state]
        while edge:
            here = edge.pop()
            new = {target for (origin, _), target in TRANSITIONS.items() if origin is here} - found
            found |= new
            edge += new
        return found

    assert reachable(SlotState.EMPTY) == set(SlotState)
    for state in SlotState:
        assert reachable(state) & {SlotState.EMPTY, SlotState.PULLED}


def test_a_green_light_ends_with_its_board() -> None:
    """From PASS nothing leads but out: the plug ends, the board leaves or is exchanged, or another one has its MAC."""
    after = {event: target for (state, event), target in TRANSITIONS.items() if state is SlotState.PASS}
    assert after == {
        SlotEvent.UNPLUGGED: SlotState.EMPTY,
        SlotEvent.TAKEN: SlotState.READY,
        SlotEvent.SEATED: SlotState.WAITING,
        SlotEvent.LIFTED: SlotState.LIFTED,
        SlotEvent.CONTESTED: SlotState.FAULT,
    }


JOBS = st.builds(
    job,
    state=st.sampled_from(JobState),
    outcome=st.none() | st.sampled_from(Outcome),
    reason=st.sampled_from(["", *(reason.value for reason in Reason)]),
    detail=st.text(max_size=5),
)


@given(row=JOBS)
@settings(max_examples=500)
def test_only_a_closed_row_that_says_pass_is_passed(row: CommittedJob) -> None:
    """Of all rows there can be, PASSED comes from a closed PASS alone; every other shape asks for a hand or is red."""
    passes = row.state is JobState.CLOSED and row.outcome is Outcome.PASS
    assert (event_of(row) is SlotEvent.PASSED) == passes


@pytest.mark.parametrize("reason", Reason)
def test_no_finding_is_passed(reason: Reason) -> None:
    """A visit without a job is never a pass: what keeps the bench from working, and an unplug, say nothing of a board."""
    event = event_of(finding(reason))
    silent = reason in GATES or reason is Reason.UNPLUGGED
    assert (event is SlotEvent.NOTHING) == silent
    if not silent:
        expected = {Light.FAIL: SlotEvent.FAILED, Light.FAULT: SlotEvent.NEEDS_TECHNICIAN}
        assert event is expected.get(MEANINGS[reason].light, SlotEvent.NEEDS_HAND)


# -- one board ---------------------------------------------------------------------------------------------------------


def test_a_board_that_passes_is_green_until_its_plug_ends() -> None:
    """BUSY while the visit runs, green when the committed row says PASS, dark when the board is taken."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        assert shows(slot) is Light.BUSY
        assert stage.going[0].plug == Plug(slot="A1", programmer=programmer(), number=1)
        await stage.end(PASS)
        assert shows(slot) is Light.PASS
        slot.tick()
        slot.try_to_start()
        await settle()
        assert (shows(slot), len(stage.going)) == (Light.PASS, 1)
        slot.unplugged()
        assert shows(slot) is Light.EMPTY
        assert stage.released == ["A1"]

    run(story)


@pytest.mark.parametrize(
    ("result", "light"),
    [
        (FAIL, Light.FAIL),
        (job(outcome=Outcome.ERROR, reason="link_lost"), Light.ACTION),
        (job(outcome=Outcome.ERROR, reason="station_bug"), Light.FAULT),
        (job(outcome=Outcome.ABORTED, reason="station_stopped"), Light.ACTION),
        (job(state=JobState.PENDING, outcome=None, reason="awaits_run_mode"), Light.ACTION),
        (job(outcome=Outcome.ERROR, reason=""), Light.FAULT),
        (finding(Reason.NO_ANSWER), Light.ACTION),
        (finding(Reason.ADAPTER_DEAF), Light.FAULT),
        (finding(Reason.ALREADY_DONE), Light.ACTION),
    ],
)
def test_what_is_not_a_pass_shows_its_tray(result: VisitResult, light: Light) -> None:
    """Red for BAD, the fault light for the technician, amber for a hand; and it stays until the plug ends."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(result)
        assert shows(slot) is light
        slot.try_to_start()
        await settle()
        assert (shows(slot), len(stage.going)) == (light, 1)
        slot.unplugged()
        assert shows(slot) is Light.EMPTY

    run(story)


def test_one_job_per_plug_and_a_new_one_after_it() -> None:
    """A board that stays is not flashed twice (C-8); the next plug begins a visit with the next number."""

    async def story(stage: Stage, slot: Slot) -> None:
        for number in (1, 2, 3):
            await plugged(slot, str(number))
            await stage.end(PASS)
            slot.unplugged()
        assert [going.plug.number for going in stage.going] == [1, 2, 3]
        assert [going.plug.programmer.generation for going in stage.going] == ["1", "2", "3"]
        assert slot.visits_ended == 3

    run(story)


# -- pulled ------------------------------------------------------------------------------------------------------------


def test_an_unplug_stops_the_line_before_anything_else() -> None:
    """The line is taken from the visit while the slot still shows what it showed; only then does the light change."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        seen: list[tuple[StopCause, int]] = []

        class TheLine:
            """Only what a stop needs."""

            def stop(self, cause: StopCause) -> None:
                """Note when it was taken."""
                seen.append((cause, len(stage.lights)))

        stage.going[0].stop.attach(TheLine())  # type: ignore[arg-type]
        before = len(stage.lights)
        slot.unplugged()
        assert seen == [(StopCause.UNPLUGGED, before)]
        with pytest.raises(LineStopped):
            stage.going[0].stop.check()

    run(story)


@pytest.mark.parametrize(
    ("result", "light"),
    [
        (job(outcome=Outcome.ABORTED, reason="unplugged"), Light.ACTION),
        (FAIL, Light.ACTION),
        (finding(Reason.UNPLUGGED), Light.EMPTY),
        (PASS, Light.EMPTY),
    ],
)
def test_a_board_pulled_too_early_stays_visible_until_the_next_plug(result: VisitResult, light: Light) -> None:
    """What was half done is said until somebody plugs in again; a pull before anything was done leaves an empty slot."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.unplugged()
        assert shows(slot) is Light.ACTION
        await stage.end(result)
        assert shows(slot) is light
        if light is Light.ACTION:
            assert slot.view().words == MEANINGS[Reason(result.reason)].words  # type: ignore[union-attr]
        await plugged(slot, "2")
        assert shows(slot) is Light.BUSY
        assert slot.view().words == ""

    run(story)


def test_a_line_that_breaks_before_the_uevent_comes_is_pulled_too() -> None:
    """The job may notice the pull before udev does: the slot says it is pulled, also after the programmer is gone."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(job(outcome=Outcome.ABORTED, reason="unplugged"))
        assert shows(slot) is Light.ACTION
        slot.unplugged()
        assert slot.state is SlotState.PULLED
        assert "do not ship" in slot.view().words

    run(story)


def test_a_port_that_cannot_be_opened_does_not_begin_visit_after_visit() -> None:
    """A line that is gone before a job began is tried again only after a while, not on every tick (B-6, B-7)."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        for _ in range(40):
            if not stage.going[-1].result.done():
                await stage.end(finding(Reason.UNPLUGGED))
            stage.clock.now_s += 0.25
            slot.tick()
            slot.try_to_start()
            await settle()
        assert 1 <= len(stage.going) <= 6

    run(story)


def test_a_replug_during_closing_starts_after_the_first_is_on_record() -> None:
    """The second board waits until the first one's result is in; then its visit begins by itself, with its own plug."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot, "1")
        slot.unplugged()
        slot.plugged(programmer("2"))
        await settle()
        assert (slot.state, len(stage.going)) == (SlotState.CLOSING, 1)
        assert slot.programmer == programmer("2")
        await stage.end(job(outcome=Outcome.ABORTED, reason="unplugged"))
        assert (slot.state, len(stage.going)) == (SlotState.BUSY, 2)
        assert stage.ended == [job(outcome=Outcome.ABORTED, reason="unplugged")]
        assert stage.going[1].plug == Plug(slot="A1", programmer=programmer("2"), number=2)
        assert stage.going[1].stop.cause is None
        await stage.end(PASS)
        assert shows(slot) is Light.PASS

    run(story)


def test_a_plug_that_came_and_went_during_closing_is_forgotten() -> None:
    """Plugged and pulled again while the first visit was being closed: no visit begins for it."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot, "1")
        slot.unplugged()
        slot.plugged(programmer("2"))
        slot.unplugged()
        await stage.end(finding(Reason.UNPLUGGED))
        assert (slot.state, slot.programmer, len(stage.going)) == (SlotState.EMPTY, None, 1)

    run(story)


def test_the_mac_is_let_go_when_the_visit_of_a_pulled_board_has_ended() -> None:
    """A visit may claim its MAC just after the pull: the claim is released again when that visit is over."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.unplugged()
        assert stage.released == ["A1"]
        await stage.end(job(outcome=Outcome.ABORTED, reason="unplugged"))
        assert stage.released == ["A1", "A1"]

    run(story)


# -- gates -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", GATES)
def test_a_gate_keeps_a_board_waiting_and_lets_it_go_by_itself(reason: Reason) -> None:
    """Nothing begins while the bench may not work; the tile says why and what to do; then the visit begins by itself."""

    async def story(stage: Stage, slot: Slot) -> None:
        stage.gate = Blocked(reason, "D")
        await plugged(slot)
        for _ in range(3):
            slot.try_to_start()
        view = slot.view()
        assert (slot.state, stage.going) == (SlotState.WAITING, [])
        assert (view.reason, view.deed) == (reason, MEANINGS[reason].deed)
        assert view.light is MEANINGS[reason].light
        stage.gate = None
        slot.try_to_start()
        await settle()
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 1)

    run(story)


@pytest.mark.parametrize("reason", [Reason.IMAGE_CHANGED, Reason.RECORDS_UNWRITABLE, Reason.NO_RECIPE])
def test_a_gate_that_needs_the_technician_shows_the_fault_light(reason: Reason) -> None:
    """A changed image, records that cannot be written and a missing recipe are no matter for the operator's hand."""

    async def story(stage: Stage, slot: Slot) -> None:
        stage.gate = Blocked(reason)
        await plugged(slot)
        assert shows(slot) is Light.FAULT
        assert stage.lights[-1] is Light.FAULT
        assert slot.view().headline == "CALL" or reason is Reason.NO_RECIPE

    run(story)


def test_a_gate_found_by_the_visit_itself_sends_the_board_back_to_wait() -> None:
    """A visit that could not begin its row is no end state: the same plug is tried again when the records can be written."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stage.gate = Blocked(Reason.RECORDS_UNWRITABLE)
        await stage.end(finding(Reason.RECORDS_UNWRITABLE, "full"))
        stage.clock.now_s += 60
        slot.try_to_start()
        await settle()
        assert (slot.state, len(stage.going)) == (SlotState.WAITING, 1)
        stage.gate = None
        slot.try_to_start()
        await settle()
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 2)
        assert stage.going[1].plug is stage.going[0].plug

    run(story)


def test_another_obstacle_is_shown_as_soon_as_the_first_is_gone() -> None:
    """The tile always names the obstacle that is in the way now."""

    async def story(stage: Stage, slot: Slot) -> list[str]:
        shown: list[str] = []
        for reason in (Reason.NO_RECIPE, Reason.RECORDS_UNWRITABLE, Reason.NO_WORK_ORDER):
            stage.gate = Blocked(reason)
            if not shown:
                await plugged(slot)
            slot.try_to_start()
            shown.append(slot.view().headline)
        slot.unplugged()
        return [*shown, slot.view().headline]

    assert run(story) == ["NO RECIPE", "CALL", "NO WORK ORDER", "EMPTY"]


# -- deadlines ---------------------------------------------------------------------------------------------------------


def progress(fraction: float | None = None, **more: Any) -> Progress:
    """A sign of progress."""
    return Progress(phase=Phase.FLASH, fraction=fraction, **more)


def test_a_visit_without_progress_is_ended_by_its_deadline() -> None:
    """30 s after the last sign of progress the line is taken away, and not a second earlier."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stage.clock.now_s += 20
        stage.going[0].tell(progress(0.1))
        await settle()
        stage.clock.now_s += 29.9
        slot.tick()
        assert stage.going[0].stop.cause is None
        stage.clock.now_s += 0.2
        slot.tick()
        assert stage.going[0].stop.cause is StopCause.DEADLINE
        await stage.end(job(outcome=Outcome.ERROR, reason="deadline"))
        assert shows(slot) is Light.ACTION

    run(story)


def test_saying_the_same_again_is_no_progress() -> None:
    """A loop that reports the same moment for ever does not keep its slot."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        for _ in range(7):
            stage.going[0].tell(progress(0.1))
            await settle()
            stage.clock.now_s += 5
            slot.tick()
        assert stage.going[0].stop.cause is StopCause.DEADLINE

    run(story)


def test_a_long_step_may_ask_for_its_time() -> None:
    """A chip erase that says it may take 125 s gets them; the step after it is held to the usual deadline again."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stage.going[0].tell(progress(0.0, allow_s=125.0))
        await settle()
        stage.clock.now_s += 120
        slot.tick()
        assert stage.going[0].stop.cause is None
        stage.going[0].tell(progress(0.5))
        await settle()
        stage.clock.now_s += 31
        slot.tick()
        assert stage.going[0].stop.cause is StopCause.DEADLINE

    run(story)


def test_no_progress_at_all_keeps_a_slot_beyond_the_jobs_deadline() -> None:
    """However lively a job is, it ends after the time a job may take."""

    async def story(stage: Stage, slot: Slot) -> float:
        await plugged(slot)
        began = stage.clock.now_s
        while stage.going[0].stop.cause is None:
            stage.going[0].tell(progress(stage.clock.now_s))
            await settle()
            stage.clock.now_s += 1
            slot.tick()
        return stage.clock.now_s - began

    assert run(story) == 300


def test_a_pull_is_not_called_a_deadline() -> None:
    """The first cause stays: a deadline that comes while a pulled board's visit is being closed changes nothing."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.unplugged()
        stage.clock.now_s += 1000
        slot.tick()
        assert stage.going[0].stop.cause is StopCause.UNPLUGGED

    run(story)


# -- contested, held, broken -------------------------------------------------------------------------------------------


def test_a_contested_green_light_goes_out() -> None:
    """When a second board shows the same MAC the one that passed is not green any more, and says where the other is."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(PASS)
        slot.contested("B2")
        assert shows(slot) is Light.FAULT
        assert slot.view().words == "two boards with one MAC"
        assert "A1 and B2" in slot.view().cause
        slot.unplugged()
        await plugged(slot, "2")
        await stage.end(PASS)
        assert shows(slot) is Light.PASS

    run(story)


def test_a_board_contested_in_its_last_moment_never_turns_green() -> None:
    """The other board may show up after the job's last look and before the row is committed: no green light then."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.contested("B2")
        assert shows(slot) is Light.BUSY
        await stage.end(PASS)
        assert shows(slot) is Light.FAULT
        assert Light.PASS not in stage.lights

    run(story)


def test_being_contested_does_not_touch_what_is_red_or_empty() -> None:
    """Only a green light is in question: a FAIL stays a FAIL and an empty slot empty."""

    async def story(stage: Stage, slot: Slot) -> None:
        slot.contested("B2")
        assert shows(slot) is Light.EMPTY
        await plugged(slot)
        await stage.end(FAIL)
        slot.contested("B2")
        assert shows(slot) is Light.FAIL

    run(story)


def test_a_held_result_is_shown_for_its_own_plug_only() -> None:
    """A PASS that is written late turns the light green if its board is still there, and never another board's."""

    async def still_there(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        plug = stage.going[0].plug
        await stage.end(held(plug))
        assert shows(slot) is Light.FAULT
        assert slot.view().words == "records cannot be written"
        slot.recorded(plug, PASS)
        assert shows(slot) is Light.PASS
        assert slot.view().mac == PASS.mac

    async def exchanged(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        first = stage.going[0].plug
        await stage.end(held(first))
        slot.unplugged()
        assert shows(slot) is Light.EMPTY
        slot.recorded(first, PASS)
        assert shows(slot) is Light.EMPTY
        await plugged(slot, "2")
        await stage.end(held(stage.going[1].plug))
        slot.recorded(first, PASS)
        assert shows(slot) is Light.FAULT

    async def another_fault(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(finding(Reason.ADAPTER_DEAF))
        slot.recorded(stage.going[0].plug, PASS)
        assert shows(slot) is Light.FAULT

    for story in (still_there, exchanged, another_fault):
        run(story)


@pytest.mark.parametrize("pulled", [False, True])
def test_a_mistake_of_ours_costs_one_slot_and_one_plug(*, pulled: bool) -> None:
    """A visit that dies of a bug is a FAULT with its name in the words; after a re-plug the slot works as before."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        if pulled:
            slot.unplugged()
        await stage.end(ValueError("off by one"))
        assert shows(slot) is (Light.ACTION if pulled else Light.FAULT)
        assert slot.view().words == "station error: ValueError: off by one"
        assert [str(error) for error in stage.broken] == ["off by one"]
        if not pulled:
            slot.unplugged()
        await plugged(slot, "2")
        await stage.end(PASS)
        assert shows(slot) is Light.PASS

    run(story)


def test_a_mistake_of_ours_does_not_lose_the_board_that_came_next() -> None:
    """The visit of a pulled board dies of a bug while the next board is in already: that one's visit begins all the same."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        slot.unplugged()
        slot.plugged(programmer("2"))
        await stage.end(ValueError("off by one"))
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 2)
        await stage.end(PASS)
        assert shows(slot) is Light.PASS
        slot.unplugged()
        assert shows(slot) is Light.EMPTY

    run(story)


@pytest.mark.parametrize("result", [PASS, FAIL, finding(Reason.NO_ANSWER), finding(Reason.NO_WORK_ORDER)])
def test_a_mistake_in_the_book_keeping_after_a_visit_is_reported(result: VisitResult) -> None:
    """What breaks after the result is shown is logged, changes no light, and leaves the slot usable."""

    async def story(stage: Stage, slot: Slot) -> None:
        stage.fails_when_ended = KeyError("metrics")
        await plugged(slot)
        await stage.end(result)
        light = shows(slot)
        assert light is not Light.BUSY
        assert [type(error) for error in stage.broken] == [KeyError]
        stage.fails_when_ended = None
        slot.unplugged()
        await plugged(slot, "2")
        await stage.end(PASS)
        assert shows(slot) is Light.PASS

    run(story)


# -- boards that move while the programmer stays -----------------------------------------------------------------------

FIXTURE = SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, moves=Moves.BOARD)
MAC = "5c:cf:7f:dd:c1:42"


async def passed(stage: Stage, slot: Slot) -> None:
    """A board is seated in a fixture and passes."""
    await plugged(slot)
    await stage.sees(Seen.BOARD)
    await stage.end(PASS)


def test_a_programmer_that_stays_waits_for_a_board_and_counts_each_seating() -> None:
    """Plugged in it is READY; a board that answers begins a visit with a plug of its own, and so does the next one."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        assert (slot.state, shows(slot), stage.looks[-1].kind) == (SlotState.READY, Light.EMPTY, "board")
        assert stage.going == []
        for number in (1, 2, 3):
            await stage.sees(Seen.BOARD)
            assert stage.going[-1].plug == Plug(slot="A1", programmer=programmer(), number=number)
            await stage.end(PASS)
            assert (shows(slot), stage.looks[-1].kind) == (Light.PASS, "departure")
            await stage.sees(Seen.GONE)
            assert (slot.state, slot.view().mac, slot.view().job_id) == (SlotState.READY, "", "")
            assert stage.looks[-1].kind == "board"
        assert stage.released == ["A1"] * 6

    run(story, FIXTURE)


def test_no_look_begins_where_the_programmer_moves() -> None:
    """A stick is opened by its visit and by nobody else."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(PASS)
        slot.try_to_start()
        assert stage.looks == []

    run(story)


def test_the_watch_begins_when_the_result_is_on_screen() -> None:
    """PASS is shown before anybody touches the board again, and the watch knows whose result it is."""

    async def story(stage: Stage, slot: Slot) -> None:
        await passed(stage, slot)
        seated = stage.looks[-1].seated
        assert seated is not None
        assert (seated.mac, seated.left, seated.seat_again) == (MAC, Left.LOADER, False)
        assert Light.PASS in stage.lights

    run(story, FIXTURE)


def test_another_board_in_the_socket_gets_its_own_visit_at_once() -> None:
    """A swap without a pause: the claim of the first is released, its green goes out, the second is BUSY."""

    async def story(stage: Stage, slot: Slot) -> None:
        await passed(stage, slot)
        stage.released.clear()
        await stage.sees(Seen.OTHER_BOARD)
        assert (shows(slot), slot.view().mac, len(stage.going)) == (Light.BUSY, "", 2)
        assert stage.released == ["A1"]
        assert stage.going[1].plug.number == 2

    run(story, FIXTURE)


@pytest.mark.parametrize("reason", ["board_removed", "unplugged"])
def test_a_board_that_left_too_early_is_spoken_of_until_the_next_one(reason: str) -> None:
    """The socket is empty and watched, but says what happened, also when the programmer is pulled after it."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.sees(Seen.BOARD)
        await stage.end(job(outcome=Outcome.ABORTED, reason=reason))
        assert (slot.state, stage.looks[-1].kind) == (SlotState.PULLED, "board")
        assert "do not ship" in slot.view().words
        assert stage.released
        await stage.sees(Seen.BOARD)
        assert (shows(slot), slot.view().words) == (Light.BUSY, "")
        await stage.end(job(outcome=Outcome.ABORTED, reason=reason))
        slot.unplugged()
        assert slot.state is SlotState.PULLED
        await plugged(slot, "2")
        assert state_of(slot) is SlotState.READY

    run(story, FIXTURE)


def test_a_test_that_was_interrupted_stays_on_screen() -> None:
    """The board was taken out in its later visit: it is flashed and not tested, and that is said over the empty socket."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.sees(Seen.BOARD)
        await stage.end(Finding(visit_id="v", reason=Reason.TEST_INTERRUPTED, detail="board_removed", mac=MAC))
        assert (slot.state, slot.view().mac, slot.view().chip_id) == (SlotState.PULLED, MAC, "0x00ddc142")

    run(story, FIXTURE)


@pytest.mark.parametrize(
    ("result", "left", "seat_again"),
    [
        (PASS, Left.LOADER, False),
        (replace(PASS, boot_evidence=BootEvidence.SOFT), Left.FIRMWARE, False),
        (job(outcome=Outcome.ERROR, reason="link_lost"), Left.LOADER, True),
        (job(state=JobState.PENDING, outcome=None, reason="awaits_run_mode"), Left.LOADER, True),
        (finding(Reason.NOT_IN_DOWNLOAD_MODE), Left.FIRMWARE, True),
        (finding(Reason.NO_ANSWER), Left.NOBODY, True),
        (finding(Reason.PORT_BUSY), Left.PORT, False),
        (finding(Reason.MARKED_BOARD), Left.LOADER, False),
    ],
)
def test_the_watch_is_told_what_the_visit_left(result: VisitResult, left: Left, *, seat_again: bool) -> None:
    """A firmware that was started is left alone; only words that ask for a hand are obeyed with the same board."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.sees(Seen.BOARD)
        await stage.end(result)
        seated = stage.looks[-1].seated
        assert seated is not None
        assert (seated.left, seated.seat_again) == (left, seat_again)

    run(story, FIXTURE)


@pytest.mark.parametrize("reason", [Reason.ADAPTER_DEAF, Reason.ADAPTER_HUNG])
def test_a_programmer_that_must_be_replugged_is_not_watched(reason: Reason) -> None:
    """Behind a deaf adapter every socket looks empty: its words stay until it is pulled."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.sees(Seen.BOARD)
        await stage.end(finding(reason))
        assert (shows(slot), len(stage.looks)) == (Light.FAULT, 1)
        slot.unplugged()
        await plugged(slot, "2")
        assert state_of(slot) is SlotState.READY

    run(story, FIXTURE)


def test_a_gate_that_closes_over_an_empty_socket_meets_the_next_board() -> None:
    """READY goes on; the board that is seated waits and is not counted, and begins by itself when the gate opens."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stage.gate = Blocked(Reason.NO_WORK_ORDER)
        slot.try_to_start()
        assert state_of(slot) is SlotState.READY
        await stage.sees(Seen.BOARD)
        assert (slot.state, slot.view().headline, stage.going) == (SlotState.WAITING, "NO WORK ORDER", [])
        stage.gate = None
        slot.try_to_start()
        await settle()
        assert state_of(slot) is SlotState.READY
        await stage.sees(Seen.BOARD)
        assert stage.going[0].plug.number == 1

    run(story, FIXTURE)


def test_a_gate_that_the_visit_found_is_watched_for_again() -> None:
    """Records that could not be written: the slot waits, then watches its socket, and the same board is seen again."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.sees(Seen.BOARD)
        stage.gate = Blocked(Reason.RECORDS_UNWRITABLE)
        await stage.end(finding(Reason.RECORDS_UNWRITABLE, "full"))
        stage.clock.now_s += 60
        slot.try_to_start()
        assert shows(slot) is Light.FAULT
        stage.gate = None
        slot.try_to_start()
        await settle()
        await stage.sees(Seen.BOARD)
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 2)

    run(story, FIXTURE)


@pytest.mark.parametrize("when", ["ready", "result"])
def test_an_unplug_takes_the_line_from_the_watch_first(when: str) -> None:
    """The watch loses its line before the light changes, and the next programmer waits until the line is released."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        if when == "result":
            await stage.sees(Seen.BOARD)
            await stage.end(PASS)
        before = len(stage.lights)
        cause: list[tuple[StopCause | None, int]] = []
        look = stage.looks[-1]
        look.asked_with.attach(_Closing(lambda why: cause.append((why, len(stage.lights)))))  # type: ignore[arg-type]
        slot.unplugged()
        assert cause == [(StopCause.UNPLUGGED, before)]
        assert slot.state is SlotState.EMPTY
        slot.plugged(programmer("2"))
        await settle()
        assert (slot.state, len(stage.looks)) == (SlotState.WAITING, 1 + (when == "result"))
        look.stop(StopCause.UNPLUGGED)
        await settle()
        assert state_of(slot) is SlotState.READY
        assert stage.looks[-1].programmer == programmer("2")

    run(story, FIXTURE)


@dataclass
class _Closing:
    """A line whose port takes its time to close."""

    stop: Callable[[StopCause], None]


def test_that_a_board_may_leave_unseen_is_shown_and_taken_back() -> None:
    """The watch says when it cannot see the board; the age of the result stays what it is."""

    async def story(stage: Stage, slot: Slot) -> None:
        await passed(stage, slot)
        seated = stage.looks[-1].seated
        assert seated is not None
        since = slot.view().changed_at
        shown: list[bool] = []
        for unwatched in (True, False, True):
            seated.unwatched(unwatched)
            await settle()
            shown.append(slot.view().unwatched)
            assert slot.view().changed_at == since
        assert shown == [True, False, True]
        await stage.sees(Seen.OTHER_BOARD)
        await stage.end(PASS)
        assert not slot.view().unwatched
        seated.unwatched(True)
        await settle()
        assert not slot.view().unwatched

    run(story, FIXTURE)


@pytest.mark.parametrize("when", ["ready", "result"])
def test_a_watch_that_dies_of_a_bug_costs_one_slot_and_one_plug(when: str) -> None:
    """An empty socket becomes a FAULT with the bug's name, a result stays; nobody looks again until the next plug."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        if when == "result":
            await stage.sees(Seen.BOARD)
            await stage.end(PASS)
        looks = len(stage.looks)
        stage.looks[-1].result.set_exception(ValueError("off by one"))
        await settle()
        assert shows(slot) is (Light.FAULT if when == "ready" else Light.PASS)
        assert [str(error) for error in stage.broken] == ["off by one"]
        slot.try_to_start()
        await settle()
        assert len(stage.looks) == looks
        slot.unplugged()
        await plugged(slot, "2")
        assert state_of(slot) is SlotState.READY

    run(story, FIXTURE)


def test_a_held_result_is_shown_when_it_is_written_while_its_board_is_watched() -> None:
    """The board is still there: its PASS turns green; after it has left nothing does."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.sees(Seen.BOARD)
        plug = stage.going[0].plug
        await stage.end(held(plug))
        slot.recorded(plug, PASS)
        assert shows(slot) is Light.PASS
        await stage.sees(Seen.GONE)
        assert state_of(slot) is SlotState.READY
        slot.recorded(plug, PASS)
        assert state_of(slot) is SlotState.READY

    run(story, FIXTURE)


def test_stopping_a_slot_ends_its_watch_and_begins_no_other() -> None:
    """The end of the station takes the line from the watch, before and after a visit."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await slot.stop(StopCause.SHUTDOWN)
        assert stage.looks[0].asked_with.cause is StopCause.SHUTDOWN
        slot.try_to_start()
        await settle()
        assert len(stage.looks) == 1
        other = stage.slot(properties=FIXTURE)
        await plugged(other)
        await stage.sees(Seen.BOARD)
        stopping = asyncio.create_task(other.stop(StopCause.SHUTDOWN))
        await settle()
        await stage.end(job(outcome=Outcome.ABORTED, reason="station_stopped"))
        await stopping
        await settle()
        assert stage.looks[-1].kind == "board"

    run(story, FIXTURE)


# -- is this board still there? ----------------------------------------------------------------------------------------


async def ask(slot: Slot, mac: str = MAC) -> asyncio.Task[bool]:
    """Another slot wants to know."""
    asking = asyncio.create_task(slot.answers(mac))
    await settle()
    return asking


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("properties", [None, FIXTURE])
def test_a_slot_with_a_result_looks_once(properties: SlotProperties | None, *, there: bool) -> None:
    """The look is a fresh one, in the slot's thread; a watch gives way to it and goes on after it."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        if properties is not None:
            await stage.sees(Seen.BOARD)
        await stage.end(PASS)
        before = len(stage.looks)
        asking = await ask(slot)
        assert [look.kind for look in stage.looks[before:]] == [MAC]
        slot.try_to_start()
        await stage.sees(there)
        assert await asking is there
        await settle()
        assert [look.kind for look in stage.looks[before:]] == [MAC, *(["departure"] if properties else [])]
        assert shows(slot) is Light.PASS

    run(story, properties)


def test_a_slot_where_the_board_cannot_be_says_no_without_looking() -> None:
    """Empty, ready, pulled, or with another board: nobody opens a port."""

    async def story(stage: Stage, slot: Slot) -> None:
        assert not await slot.answers(MAC)
        await plugged(slot)
        assert not await slot.answers(MAC)
        await stage.sees(Seen.BOARD)
        await stage.end(PASS)
        assert not await slot.answers("5c:cf:7f:00:00:07")
        await stage.sees(Seen.GONE)
        assert not await slot.answers(MAC)
        slot.unplugged()
        assert not await slot.answers(MAC)
        assert {look.kind for look in stage.looks} == {"board", "departure"}

    run(story, FIXTURE)


def test_a_busy_slot_answers_by_its_next_progress() -> None:
    """The chip answered: with this MAC it is there, with another one it is not; a sign without a MAC is no answer."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        for mac in (MAC, "5c:cf:7f:00:00:07"):
            asking = await ask(slot)
            stage.going[0].tell(progress(0.1))
            await settle()
            assert not asking.done()
            stage.going[0].tell(progress(0.1, mac=mac, chip_id=1))
            assert await asking is (mac == MAC)
        assert stage.looks == []

    run(story)


@pytest.mark.parametrize(
    ("result", "looks"),
    [
        (PASS, True),
        (FAIL, True),
        (job(outcome=Outcome.ABORTED, reason="board_removed"), False),
        (job(outcome=Outcome.ERROR, reason="link_lost"), False),
        (finding(Reason.UNPLUGGED), False),
    ],
)
def test_a_visit_that_ends_is_followed_by_a_look_unless_its_board_is_gone(result: VisitResult, *, looks: bool) -> None:
    """No progress came any more: a normal end is asked for once more, a broken link is the answer."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stage.going[0].tell(progress(0.1, mac=MAC, chip_id=1))
        await settle()
        asking = await ask(slot)
        await stage.end(result)
        assert [look.kind for look in stage.looks] == ([MAC] if looks else [])
        if looks:
            await stage.sees(True)
        assert await asking is looks

    run(story)


def test_an_unplug_answers_whoever_asks() -> None:
    """The line is taken from the look as from anybody else, the answer is no, and the next board begins after it."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(PASS)
        asking = await ask(slot)
        slot.unplugged()
        slot.plugged(programmer("2"))
        assert slot.state is SlotState.WAITING
        assert not await asking
        await settle()
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 2)

    run(story)


def test_whoever_stops_asking_gives_the_line_back() -> None:
    """The question was withdrawn: the look is stopped, and the watch goes on."""

    async def story(stage: Stage, slot: Slot) -> None:
        await passed(stage, slot)
        asking = await ask(slot)
        asking.cancel()
        await settle()
        assert asking.cancelled()
        assert [look.kind for look in stage.looks[-2:]] == [MAC, "departure"]
        assert stage.looks[-2].result.done()

    run(story, FIXTURE)


def test_two_questions_are_looked_after_one_after_the_other() -> None:
    """Two slots ask at once: one line, one owner."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(PASS)
        first, second = await ask(slot), await ask(slot)
        assert len(stage.looks) == 1
        await stage.sees(True)
        assert await first
        await settle()
        assert len(stage.looks) == 2
        await stage.sees(False)
        assert not await second

    run(story)


@pytest.mark.parametrize("result", [PASS, FAIL, job(outcome=Outcome.ERROR, reason="link_lost")])
def test_a_board_that_turned_up_elsewhere_is_not_shown_any_more(result: VisitResult) -> None:
    """A programmer that should have moved with it asks to be plugged in again; the next plug begins as ever."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        await stage.end(result)
        slot.lifted("5c:cf:7f:00:00:07")
        assert slot.state in RESULTS
        slot.lifted(MAC)
        view = slot.view()
        assert (slot.state, view.light, view.mac, view.job_id) == (SlotState.LIFTED, Light.EMPTY, "", "")
        assert view.words == "board gone: plug in again"
        assert not slot.free
        slot.unplugged()
        await plugged(slot, "2")
        assert (shows(slot), len(stage.going)) == (Light.BUSY, 2)

    run(story)


def test_a_fixture_whose_board_turned_up_elsewhere_is_ready() -> None:
    """The watch of the board gives way to the watch of the empty socket."""

    async def story(stage: Stage, slot: Slot) -> None:
        await passed(stage, slot)
        slot.lifted(MAC)
        await settle()
        assert (slot.state, stage.looks[-1].kind, slot.free) == (SlotState.READY, "board", True)

    run(story, FIXTURE)


def test_a_board_that_turned_up_elsewhere_while_it_is_busy_here_changes_nothing() -> None:
    """Only a result that is shown can go out."""

    async def story(stage: Stage, slot: Slot) -> None:
        slot.lifted(MAC)
        assert slot.state is SlotState.EMPTY
        await plugged(slot)
        stage.going[0].tell(progress(0.1, mac=MAC, chip_id=1))
        await settle()
        slot.lifted(MAC)
        assert shows(slot) is Light.BUSY

    run(story)


# -- what a slot is ----------------------------------------------------------------------------------------------------


def test_what_was_learned_is_shown_at_once_and_changes_no_age() -> None:
    """The tile says what the slot is; learning it is no new state of its board."""

    async def story(stage: Stage, slot: Slot) -> None:
        assert slot.view().properties == "reset ?, gpio0 ?, programmer moves, make"
        shown = len(stage.lights)
        slot.become(slot.properties.learned(reset=Reset.NONE))
        slot.become(slot.properties)
        assert slot.view().properties == "reset none, gpio0 ?, programmer moves, make"
        assert len(stage.lights) == shown + 1

    run(story)


def test_the_words_follow_the_properties() -> None:
    """Where there is no jumper nobody is told to move one."""

    async def story(stage: Stage, slot: Slot) -> list[str]:
        await plugged(slot)
        await stage.end(finding(Reason.NOT_IN_DOWNLOAD_MODE))
        by_hand = slot.view().words
        slot.become(SlotProperties(reset=Reset.LINES, gpio0=Gpio0.LINES, role=Role.MAKE))
        return [by_hand, slot.view().words]

    by_hand, by_lines = run(story)
    assert "GPIO0" in by_hand
    assert "GPIO0" not in by_lines


# -- the end of the station --------------------------------------------------------------------------------------------


def test_stopping_a_slot_waits_for_its_record() -> None:
    """The visit's line is taken with the cause, and `stop` returns only when the result is in."""

    async def story(stage: Stage, slot: Slot) -> None:
        await plugged(slot)
        stopping = asyncio.create_task(slot.stop(StopCause.SHUTDOWN))
        await settle()
        assert stage.going[0].stop.cause is StopCause.SHUTDOWN
        assert not stopping.done()
        await stage.end(job(outcome=Outcome.ABORTED, reason="station_stopped"))
        await stopping
        assert shows(slot) is Light.ACTION

    run(story)


def test_stopping_an_idle_slot_is_nothing() -> None:
    """A slot without a visit, and one whose visit is over, stop at once and keep what they show; nothing begins after it."""

    async def story(stage: Stage, slot: Slot) -> None:
        await slot.stop(StopCause.SHUTDOWN)
        assert shows(slot) is Light.EMPTY
        await plugged(slot)
        assert stage.going == []
        done = stage.slot()
        await plugged(done)
        await stage.end(PASS)
        await done.stop(StopCause.SHUTDOWN)
        assert shows(done) is Light.PASS

    run(story)


# -- what a person sees ------------------------------------------------------------------------------------------------


def test_the_tile_follows_the_job() -> None:
    """Phase, progress, note and board appear while the job runs and go when it is over; the board and the row stay."""

    async def story(stage: Stage, slot: Slot) -> list[SlotView]:
        views = [slot.view()]
        await plugged(slot)
        stage.going[0].tell(progress(0.5, note="writing", mac="5c:cf:7f:dd:c1:42", chip_id=0xDDC142))
        await settle()
        views.append(slot.view())
        await stage.end(PASS)
        views.append(slot.view())
        slot.unplugged()
        return [*views, slot.view()]

    empty, busy, passed, again = run(story)
    assert (empty.headline, empty.words, empty.deed, empty.mac) == ("EMPTY", "", "", "")
    assert (busy.headline, busy.phase, busy.fraction, busy.note) == ("BUSY", Phase.FLASH, 0.5, "writing")
    assert (busy.mac, busy.chip_id, busy.job_id) == ("5c:cf:7f:dd:c1:42", "0x00ddc142", "")
    assert (passed.headline, passed.deed) == ("GOOD", "unplug, put the board into GOOD")
    assert (passed.phase, passed.outcome, passed.reason, passed.job_id) == (None, Outcome.PASS, "", "job-1")
    assert (again.headline, again.mac, again.chip_id, again.outcome) == ("EMPTY", "", "", None)
    assert passed.changed_at == "2025-11-22T00:00:00.000+00:00"


def test_the_tile_shows_what_the_board_was_given() -> None:
    """Serial number and values stand on it with the result that is on record, and go with the board."""

    async def story(stage: Stage, slot: Slot) -> list[SlotView]:
        await plugged(slot)
        views = [slot.view()]
        await stage.end(replace(PASS, values=(("serial", "SN17"),)))
        views.append(slot.view())
        slot.unplugged()
        return [*views, slot.view()]

    assert [view.values for view in run(story)] == [(), (("serial", "SN17"),), ()]


def test_a_late_sign_of_a_pulled_board_is_not_shown_for_the_next() -> None:
    """What a visit still had to say when its plug ended is dropped: the next board's tile begins empty."""

    async def story(stage: Stage, slot: Slot) -> SlotView:
        await plugged(slot, "1")
        first = stage.going[0]
        slot.unplugged()
        slot.plugged(programmer("2"))
        await stage.end(finding(Reason.UNPLUGGED))
        first.tell(progress(0.9, mac="5c:cf:7f:dd:c1:42", chip_id=0xDDC142))
        await settle()
        return slot.view()

    view = run(story)
    assert (view.headline, view.fraction, view.mac) == ("BUSY", None, "")


def test_the_words_of_a_result_leave_its_notes_out() -> None:
    """The person reads which check crashed, not the traceback and the retries below it."""

    async def story(stage: Stage, slot: Slot) -> SlotView:
        await plugged(slot)
        await stage.end(job(outcome=Outcome.FAIL, reason="check_raised", detail="free_ram\nTraceback\n  MemoryError"))
        return slot.view()

    assert run(story).words == "check free_ram crashed"


def test_a_place_outside_the_map_is_shown_and_never_begins() -> None:
    """A programmer in an unknown place is a tile of its own that asks to use a slot."""

    async def main() -> SlotView:
        stage = Stage(gate=Blocked(Reason.UNKNOWN_PLACE))
        slot = stage.slot(known=False)
        await plugged(slot)
        assert stage.going == []
        return slot.view()

    view = asyncio.run(main())
    assert (view.known, view.light, view.deed) == (False, Light.ACTION, "use a slot")


# -- any order ---------------------------------------------------------------------------------------------------------

ENDS: tuple[VisitResult, ...] = (
    PASS,
    FAIL,
    job(outcome=Outcome.ABORTED, reason="unplugged"),
    job(outcome=Outcome.ABORTED, reason="board_removed"),
    job(state=JobState.PENDING, outcome=None, reason="awaits_run_mode"),
    finding(Reason.UNPLUGGED),
    finding(Reason.NO_ANSWER),
    finding(Reason.ADAPTER_DEAF),
    finding(Reason.RECORDS_UNWRITABLE),
)
OUTSIDE = ["plug", "plug", "unplug", "tick", "gate", "open gate", "contest", "bug", "hold", "record", "settle"]
LOOKS = ["board", "board", "gone", "other", "yes", "no", "ask", "lift", "watch bug"]
MOVES = st.one_of(st.sampled_from(OUTSIDE), st.sampled_from(LOOKS), st.sampled_from(range(len(ENDS))))


class Game:
    """One slot under random events, and what must be true of it at every moment."""

    def __init__(self, stage: Stage, slot: Slot) -> None:
        self.stage, self.slot = stage, slot
        self.generation, self.there = 0, False
        self.passed: set[int] = set()
        self.spoilt: set[int] = set()
        """Plugs whose board was contested, or has left."""
        self.held: list[Plug] = []
        self.asking: list[asyncio.Task[bool]] = []

    @property
    def running(self) -> Going | None:
        """The visit that is going."""
        last = self.stage.going[-1:]
        return last[0] if last and not last[0].result.done() else None

    @property
    def looking(self) -> Look | None:
        """The look that is going on."""
        last = self.stage.looks[-1:]
        return last[0] if last and not last[0].result.done() else None

    async def play(self, move: str | int) -> None:
        """Let one thing happen, if it can happen now."""
        if isinstance(move, int):
            await self._end(ENDS[move])
            return
        match move:
            case "bug":
                await self._end(ValueError("bug"))
            case "hold" if self.running:
                self.held.append(self.running.plug)
                await self._end(held(self.held[-1]))
            case "record" if self.held:
                plug = self.held.pop(0)
                self.passed.add(plug.number)
                self.slot.recorded(plug, PASS)
            case "settle":
                await settle()
            case "ask":
                self.asking.append(await ask(self.slot))
            case _ if move in LOOKS:
                await self._see(move)
            case _:
                self._at_once(move)

    def _at_once(self, move: str) -> None:
        match move:
            case "plug" if not self.there:
                self.generation, self.there = self.generation + 1, True
                self.slot.plugged(programmer(str(self.generation)))
            case "unplug" if self.there:
                self.there = False
                self.slot.unplugged()
            case "tick":
                self.stage.clock.now_s += 3
                self.slot.tick()
                self.slot.try_to_start()
            case "gate":
                self.stage.gate = Blocked(Reason.NO_WORK_ORDER)
            case "open gate":
                self.stage.gate = None
            case "contest" if self.slot.plug is not None:
                self.slot.contested("B2")
                self.spoilt.add(self.slot.plug.number)

    async def _see(self, move: str) -> None:
        """Something comes of the look that is going on, if that look can see it."""
        look = self.looking
        number = self.slot.plug.number if self.slot.plug else 0
        match move, look.kind if look else "":
            case "lift", _:
                if self.slot.state in RESULTS and self.slot.view().mac == MAC:
                    self.spoilt.add(number)
                self.slot.lifted(MAC)
            case "board", "board":
                await self.stage.sees(Seen.BOARD)
            case "gone" | "other", "departure":
                self.spoilt.add(number)
                await self.stage.sees(Seen.GONE if move == "gone" else Seen.OTHER_BOARD)
            case "yes" | "no", kind if kind == MAC:
                await self.stage.sees(move == "yes")
            case "watch bug", _ if look is not None:
                look.result.set_exception(ValueError("bug"))
                await settle()

    async def _end(self, result: VisitResult | Exception) -> None:
        going = self.running
        if going is not None:
            if result is PASS:
                self.passed.add(going.plug.number)
            await self.stage.end(result)

    def check(self) -> None:
        """What must hold always."""
        visits = [going for going in self.stage.going if not going.result.done()]
        looks = [look for look in self.stage.looks if not look.result.done()]
        assert len(visits) + len(looks) <= 1, "one line has two owners"
        assert not visits or self.slot.busy
        if shows(self.slot) is Light.PASS:
            assert self.there
            assert self.slot.plug is not None
            assert self.slot.plug.number in self.passed - self.spoilt
        if not self.there:
            assert shows(self.slot) in (Light.EMPTY, Light.ACTION)
        self.slot.view()


@pytest.mark.parametrize("properties", [None, FIXTURE])
@given(moves=st.lists(MOVES, max_size=40))
@settings(max_examples=300, deadline=None)
def test_in_any_order_green_is_a_pass_of_the_board_that_is_there(
    properties: SlotProperties | None, moves: list[str | int]
) -> None:
    """Whatever happens in whatever order: one owner of the line, no event without a place in the table, no false green."""

    async def story(stage: Stage, slot: Slot) -> None:
        game = Game(stage, slot)
        for move in moves:
            await game.play(move)
            game.check()
        await settle()
        await game.play(ENDS.index(PASS))
        game.check()
        for asking in game.asking:
            asking.cancel()
        await asyncio.gather(*game.asking, return_exceptions=True)
        # Whatever came before, the slot works for the next board.
        slot.unplugged()
        if game.running:
            await stage.end(FAIL)
        await settle()
        stage.gate = None
        await plugged(slot, "last")
        if properties is not None:
            await stage.sees(Seen.BOARD)
        assert shows(slot) is Light.BUSY

    run(story, properties)


def test_an_empty_slot_that_may_make_nothing_says_so_and_still_takes_a_known_board() -> None:
    """No board is sent there, and its tile is not EMPTY; whatever is plugged in is looked at, for it may be golden."""

    async def story(stage: Stage, slot: Slot) -> None:
        stage.bar = Blocked(Reason.SLOT_QUARANTINED, "five boards")
        view = slot.view()
        assert (view.headline, view.light, view.reason) == ("QUARANTINED", Light.FAULT, "slot_quarantined")
        assert "five boards" in view.words
        assert not slot.free
        await plugged(slot)
        assert (slot.view().headline, slot.light) == ("BUSY", Light.BUSY)
        await stage.end(finding(Reason.GOLDEN_PASSED))
        assert slot.view().headline == "PROVEN"
        stage.bar = None
        slot.unplugged()
        assert (slot.view().headline, slot.light, slot.free) == ("EMPTY", Light.EMPTY, True)

    run(story)
