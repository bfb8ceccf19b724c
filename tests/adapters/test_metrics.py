"""The metrics as Prometheus reads them: what is counted, under which labels, and how large a scrape gets."""

from __future__ import annotations

import re
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from station.adapters.metrics import Metrics
from station.bookkeeping import count_job
from station.model import (
    FlashChip,
    HostFacts,
    JobEnd,
    JobStart,
    JobState,
    Light,
    Lot,
    LotState,
    Outcome,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    Plug,
    Programmer,
)
from station.reasons import Reason
from station.selftest import UNKNOWN_VENDOR, VENDORS
from station.views import Diagnosis, Level, SlotView, StationView

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
HOST = HostFacts(
    station_id="bench-1",
    station_version="0.1.0",
    esptool_version="5.6.0",
    kernel_version="6.1.0-29-amd64",
    boot_id="9e7c",
    clock_synchronised=True,
)
BENCH_OF_32 = tuple(f"{row}{number}" for row in "ABCD" for number in range(1, 9))
CHECKS = ("disk", "clock")
CLOSED_LISTS = {
    "check": set(CHECKS),
    "level": {"warning", "problem"},
    "slot": set(BENCH_OF_32),
    "outcome": {"PASS", "FAIL", "ERROR", "ABORTED"},
    "light": {"EMPTY", "BUSY", "ACTION", "PASS", "FAIL", "FAULT"},
    "phase": {"CONNECT", "FLASH", "VERIFY", "BOOT", "PROVISION", "SELF_TEST"},
    "reason": {reason.value for reason in Reason},
    "vendor": {*VENDORS.values(), UNKNOWN_VENDOR},
    "state": {"printed", "failed"},
}


def make(*slots: str) -> Metrics:
    """Return metrics around a registry of their own."""
    return Metrics(CollectorRegistry(), host=HOST, slots=slots, checks=CHECKS)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return all samples as a scraper parses them."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """Return one sample; KeyError when the label set does not exist."""
    return samples(metrics)[name, frozenset(labels.items())]


def job_end(outcome: Outcome | None, reason: str = "", state: JobState = JobState.CLOSED) -> JobEnd:
    """Return the end of a job."""
    return JobEnd(
        state=state,
        outcome=outcome,
        reason=reason,
        detail="5c:cf:7f:dd:c1:42 said 0x00ddc142",
        ended_at=datetime(2026, 1, 1, tzinfo=UTC),
        duration_s=21.5,
        phases=(),
        measurements=(),
        baud_used=460_800,
        baud_fallbacks=1,
        boot_evidence=None,
        flash_touched=True,
        flash_mode="dout",
        bytes_flashed=633_688,
        transcript=b"",
    )


def job_start(label: str, attempt: int) -> JobStart:
    """Return the beginning of a visit's part in a job."""
    return JobStart(
        id="0196",
        visit_id="0195",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        plug=Plug(slot=label, programmer=Programmer(place="p", node="n", sysfs_path="s", generation="1"), number=1),
        lot=Lot(id="l", recipe_hash="3f", product="lamp", person="Anna", state=LotState.OPEN, standing=False),
        identity=None,
        observed_mac="",
        flash=None,
        firmware_sha256="",
        operator="Anna",
        host=HOST,
        attempt=attempt,
    )


def view_of(*slots: SlotView, ready: bool = True, light_healthy: bool = True) -> StationView:
    """Return a station with these slots."""
    return StationView(
        station_id="bench-1",
        product="lamp",
        recipe_version="1",
        recipe_hash="3fa91c0e",
        lot_state="open",
        lot_person="",
        notices=(),
        slots=slots,
        pending=(),
        pending_count=0,
        rejected_count=0,
        ready=ready,
        udev_heard=True,
        database_writable=ready,
        recipe_loaded=True,
        light_healthy=light_healthy,
    )


def slot(label: str, light: Light, *, known: bool = True) -> SlotView:
    """Return one slot."""
    return SlotView(slot=label, place=f"usb-{label}", known=known, light=light, headline="", words="", deed="")


def test_counts_closed_jobs():
    """A closed job counts by slot and outcome, its reason once, and its first attempt for the yield."""
    metrics = make("A1", "A2")
    metrics.job_finished("A1", job_end(Outcome.PASS), first_attempt=True)
    metrics.job_finished("A2", job_end(Outcome.FAIL, Reason.NO_BOOT), first_attempt=True)
    metrics.job_finished("A2", job_end(Outcome.PASS), first_attempt=False)
    assert value(metrics, "station_jobs_total", slot="A1", outcome="PASS") == 1
    assert value(metrics, "station_jobs_total", slot="A2", outcome="FAIL") == 1
    assert value(metrics, "station_jobs_total", slot="A2", outcome="PASS") == 1
    assert value(metrics, "station_first_attempts_total", outcome="PASS") == 1
    assert value(metrics, "station_first_attempts_total", outcome="FAIL") == 1
    assert value(metrics, "station_job_reasons_total", reason="no_boot") == 1
    assert sum(number for (name, _), number in samples(metrics).items() if name == "station_job_reasons_total") == 1


def test_a_waiting_job_is_not_counted():
    """A pending job, or one stopped by request, is no job with an outcome yet and moves no counter."""
    metrics = make("A1")
    before = {key: number for key, number in samples(metrics).items() if key[0].startswith("station_")}
    metrics.job_finished("A1", job_end(None, Reason.AWAITS_RUN_MODE, JobState.PENDING), first_attempt=True)
    metrics.job_finished("A1", job_end(None, Reason.STOPPED_BY_REQUEST), first_attempt=True)
    assert {key: number for key, number in samples(metrics).items() if key[0].startswith("station_")} == before


@pytest.mark.parametrize(("attempt", "first"), [(1, 1), (2, 0)])
def test_a_job_of_two_visits_is_counted_once(attempt, first):
    """A job that waits counts nowhere; its second visit counts it once, in its own slot, as the attempt that it is."""
    metrics = make("A1", "T1")
    flashed = replace(
        job_end(None, Reason.AWAITS_TEST_SLOT, JobState.PENDING),
        phases=(PhaseRecord(phase=Phase.FLASH, outcome=PhaseOutcome.PASS, duration_s=12.0),),
    )
    count_job(metrics, job_start("A1", attempt), flashed)
    closed = {"station_jobs_total", "station_job_reasons_total", "station_first_attempts_total"}
    assert {number for (name, _), number in samples(metrics).items() if name in closed} == {0}
    assert value(metrics, "station_bytes_flashed_total", slot="A1") == 633_688

    tested = replace(
        job_end(Outcome.PASS),
        phases=(
            PhaseRecord(phase=Phase.FLASH, outcome=PhaseOutcome.SKIPPED, duration_s=0.0),
            PhaseRecord(phase=Phase.SELF_TEST, outcome=PhaseOutcome.PASS, duration_s=4.0),
        ),
        baud_fallbacks=0,
        bytes_flashed=0,
    )
    count_job(metrics, job_start("T1", attempt), tested)
    found = {key: number for key, number in samples(metrics).items() if key[0] in closed and number}
    wanted = {("station_jobs_total", frozenset({("slot", "T1"), ("outcome", "PASS")})): 1.0}
    wanted |= {("station_first_attempts_total", frozenset({("outcome", "PASS")})): 1.0} if first else {}
    assert found == wanted
    assert value(metrics, "station_bytes_flashed_total", slot="A1") == 633_688
    assert value(metrics, "station_bytes_flashed_total", slot="T1") == 0
    assert value(metrics, "station_phase_duration_seconds_count", phase="FLASH") == 1
    assert value(metrics, "station_phase_duration_seconds_count", phase="SELF_TEST") == 1


@pytest.mark.parametrize(
    ("jedec_id", "vendor"), [(0x146085, "PUYA"), (0x144068, "BOYA"), (0x144077, "unknown"), (0x1440EF, "WINBOND")]
)
def test_boards_are_counted_by_who_made_their_flash(jedec_id, vendor):
    """Once for each board, at the end of its first attempt, whatever that was; a job that waits is not counted yet."""
    metrics = make("A1")
    start = replace(job_start("A1", 1), flash=FlashChip(jedec_id=jedec_id, size_bytes=1 << 20))
    count_job(metrics, start, job_end(None, "awaits_run_mode", JobState.PENDING))
    assert value(metrics, "station_flash_vendor_total", vendor=vendor) == 0
    count_job(metrics, start, job_end(Outcome.FAIL, "out_of_limits"))
    count_job(metrics, replace(start, attempt=2), job_end(Outcome.PASS))
    count_job(metrics, job_start("A1", 1), job_end(Outcome.ERROR, "link_lost"))
    counted = {
        key: number for key, number in samples(metrics).items() if key[0] == "station_flash_vendor_total" and number
    }
    assert counted == {("station_flash_vendor_total", frozenset({("vendor", vendor)})): 1.0}


def test_labels_are_counted_by_how_they_ended():
    """Both ends exist from the start; what waits is a number of its own."""
    metrics = make("A1")
    assert value(metrics, "station_labels_total", state="failed") == 0
    metrics.labels_waiting(3)
    metrics.label_ended("printed")
    metrics.label_ended("printed")
    metrics.label_ended("failed")
    assert value(metrics, "station_labels_total", state="printed") == 2
    assert value(metrics, "station_labels_total", state="failed") == 1
    assert value(metrics, "station_labels_waiting") == 3


def test_nothing_waits_and_nothing_was_rejected():
    """Before any board waits, and when none does any more, the gauges are there and say 0."""
    metrics = make("A1")
    names = ("station_pending_jobs", "station_pending_oldest_seconds", "station_rejected_modules")
    assert [value(metrics, name) for name in names] == [0, 0, 0]
    metrics.pending_jobs(1, 60.0)
    metrics.rejected(1)
    metrics.pending_jobs(0, 0.0)
    metrics.rejected(0)
    assert [value(metrics, name) for name in names] == [0, 0, 0]


def test_counts_findings_and_the_rest():
    """Visits without a job, bytes, baud steps, phases, commits, plugs and lost log lines each move their own metric."""
    metrics = make("A1")
    metrics.visit_finding(Reason.NO_ANSWER)
    metrics.bytes_flashed("A1", 633_688)
    metrics.bytes_flashed("A1", 312)
    metrics.baud_fallback("A1")
    metrics.phase_finished(Phase.FLASH, 12.0)
    metrics.database_write(0.004)
    metrics.slot_to_busy(0.04)
    metrics.database_backlog(3)
    metrics.pending_jobs(2, 4711.5)
    metrics.rejected(3)
    metrics.log_event_dropped()
    assert value(metrics, "station_visit_findings_total", reason="no_answer") == 1
    assert value(metrics, "station_bytes_flashed_total", slot="A1") == 634_000
    assert value(metrics, "station_baud_fallbacks_total", slot="A1") == 1
    assert value(metrics, "station_phase_duration_seconds_bucket", phase="FLASH", le="10.0") == 0
    assert value(metrics, "station_phase_duration_seconds_bucket", phase="FLASH", le="12.5") == 1
    assert value(metrics, "station_database_write_seconds_bucket", le="0.005") == 1
    assert value(metrics, "station_slot_to_busy_seconds_sum") == 0.04
    assert value(metrics, "station_database_backlog") == 3
    assert value(metrics, "station_pending_jobs") == 2
    assert value(metrics, "station_pending_oldest_seconds") == 4711.5
    assert value(metrics, "station_rejected_modules") == 3
    assert value(metrics, "station_log_events_dropped_total") == 1


def test_a_slot_shows_exactly_one_light():
    """However a slot changes, exactly one of its lights is 1."""
    metrics = make("A1", "A2")
    for light in Light:
        metrics.slot_light("A1", light)
        shown = {each.value: value(metrics, "station_slot_state", slot="A1", light=each.value) for each in Light}
        assert shown == dict.fromkeys(map(str, Light), 0.0) | {light.value: 1.0}
    assert all(value(metrics, "station_slot_state", slot="A2", light=light.value) == 0 for light in Light)


def test_follows_the_view():
    """Readiness, the health of the light and the slots' lights are what the page shows; unknown places are only counted."""
    metrics = make("A1")
    metrics.station_view(view_of(slot("A1", Light.PASS), slot("2.4.1", Light.ACTION, known=False)))
    assert value(metrics, "station_ready") == 1
    assert value(metrics, "station_udev_heard") == 1
    assert value(metrics, "station_database_writable") == 1
    assert value(metrics, "station_recipe_loaded") == 1
    assert value(metrics, "station_light_healthy") == 1
    assert value(metrics, "station_unknown_places") == 1
    assert value(metrics, "station_slot_state", slot="A1", light="PASS") == 1
    assert b"2.4.1" not in metrics.render()
    metrics.station_view(view_of(slot("A1", Light.EMPTY), ready=False, light_healthy=False))
    assert value(metrics, "station_ready") == 0
    assert value(metrics, "station_database_writable") == 0
    assert value(metrics, "station_light_healthy") == 0
    assert value(metrics, "station_unknown_places") == 0
    assert value(metrics, "station_slot_state", slot="A1", light="PASS") == 0


def test_findings_of_the_doctor_are_counted_by_check():
    """Each check has as many findings of a level as the doctor last said; what is mended goes back to zero."""
    metrics = make("A1")
    full = Diagnosis(check="disk", level=Level.PROBLEM, said="full", fix="make room")
    late = [Diagnosis(check="clock", level=Level.WARNING, said=said, fix="set it") for said in ("late", "early")]
    metrics.station_view(replace(view_of(), diagnoses=(full, *late)))
    assert value(metrics, "station_doctor_findings", check="disk", level="problem") == 1
    assert value(metrics, "station_doctor_findings", check="disk", level="warning") == 0
    assert value(metrics, "station_doctor_findings", check="clock", level="warning") == 2
    metrics.station_view(view_of())
    assert value(metrics, "station_doctor_findings", check="disk", level="problem") == 0
    assert value(metrics, "station_doctor_findings", check="clock", level="warning") == 0


def test_every_label_set_exists_from_the_start():
    """Before anything happened each label set is there at zero, so that rate() sees the first failure."""
    metrics = make(*BENCH_OF_32)
    start = {key for key in samples(metrics) if key[0].startswith("station_")}
    for each, outcome, reason in product(BENCH_OF_32, Outcome, Reason):
        metrics.job_finished(each, job_end(outcome, reason), first_attempt=True)
    for each in BENCH_OF_32:
        metrics.bytes_flashed(each, 1)
        metrics.baud_fallback(each)
        metrics.slot_light(each, Light.BUSY)
    for reason, phase in product(Reason, Phase):
        metrics.visit_finding(reason)
        metrics.phase_finished(phase, 1.0)
    assert {key for key in samples(metrics) if key[0].startswith("station_")} == start


def test_a_taught_slot_gets_its_label_sets():
    """A slot that joins while the station runs has all its label sets at once, and adding it again changes nothing."""
    metrics = make("A1")
    metrics.add_slot("B7")
    assert value(metrics, "station_jobs_total", slot="B7", outcome="ERROR") == 0
    metrics.baud_fallback("B7")
    metrics.add_slot("B7")
    assert value(metrics, "station_baud_fallbacks_total", slot="B7") == 1


def test_labels_come_from_closed_lists_only():
    """No label takes a value outside its closed list, and none is a MAC, a chip ID or words of a board."""
    metrics = make(*BENCH_OF_32)
    metrics.job_finished("A1", job_end(Outcome.FAIL, Reason.OUT_OF_LIMITS), first_attempt=True)
    for name, labels in samples(metrics):
        for label, text in labels:
            if name == "station_build_info" or label == "le":
                continue
            assert text in CLOSED_LISTS[label], (name, label, text)
    assert not re.search(rb"(?i)5c:cf|ddc142|said", metrics.render())


def test_refuses_a_reason_outside_the_list():
    """Text that is no reason never becomes a label, and such a job counts nowhere."""
    metrics = make("A1")
    with pytest.raises(ValueError, match="is not a valid Reason"):
        metrics.job_finished("A1", job_end(Outcome.FAIL, "MAC 5c:cf:7f"), first_attempt=True)
    with pytest.raises(ValueError, match="is not a valid Reason"):
        metrics.visit_finding("MAC 5c:cf:7f")
    assert b"5c:cf" not in metrics.render()
    assert value(metrics, "station_jobs_total", slot="A1", outcome="FAIL") == 0


def test_a_large_bench_stays_small():
    """A scrape of 32 slots, with everything in it used, stays under 3000 lines."""
    metrics = make(*BENCH_OF_32)
    for each, outcome, reason in product(BENCH_OF_32, Outcome, Reason):
        metrics.job_finished(each, job_end(outcome, reason), first_attempt=True)
    assert 500 < len(metrics.render().splitlines()) < 3000


@pytest.mark.prometheus
def test_promtool_finds_nothing_to_say():
    """Prometheus' own linter is silent about names, units, help and types."""
    metrics = make("A1", "A2")
    metrics.phase_finished(Phase.CONNECT, 0.4)
    done = subprocess.run(["promtool", "check", "metrics"], input=metrics.render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_counts_from_many_threads():
    """Jobs of all slots count at once, from their own threads, while a scrape runs; nothing is lost."""
    metrics = make(*BENCH_OF_32)

    def work(label: str) -> None:
        for _ in range(50):
            metrics.job_finished(label, job_end(Outcome.PASS), first_attempt=True)
            metrics.bytes_flashed(label, 10)

    threads = [threading.Thread(target=work, args=(label,)) for label in BENCH_OF_32]
    for thread in threads:
        thread.start()
    metrics.render()
    for thread in threads:
        thread.join()
    assert value(metrics, "station_first_attempts_total", outcome="PASS") == 50 * 32
    assert value(metrics, "station_bytes_flashed_total", slot="D8") == 500


def test_the_document_names_every_metric():
    """docs/metrics.md lists exactly the station's metrics, each with its labels."""
    rows = dict(re.findall(r"^\| `(station_\w+)` \|([^|]*)\|", DOCUMENT.read_text(), flags=re.MULTILINE))
    written = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows.items()}
    real: dict[str, set[str]] = {}
    metrics = make("A1")
    metrics.numbers_left({"sensors": 7})
    for name, labels in samples(metrics):
        if name.startswith("station_"):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            real.setdefault(family, set()).update(label for label, _ in labels if label != "le")
    assert written == real
