"""The station's metrics, in the words of the bench, around an injected prometheus-client registry.

The methods are named after what happens on the bench and are safe from any thread. Every label takes its values from a
closed list (slots of the map, phases, lights, outcomes, reasons) and every label set exists from the start, so that `rate()`
sees the first failure. Never a MAC, a chip ID, a job, or text from a board in a label. `docs/metrics.md` lists them all; a
test keeps the two in step. Counters start at zero with the station: totals over restarts come from the records.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from station.model import HostFacts, JobEnd, JobState, Light, Outcome, Phase
from station.reasons import Reason
from station.selftest import UNKNOWN_VENDOR, VENDORS
from station.views import Level, SlotView, StationView

# Around the times measured per phase on the reference chip (docs/metrics.md): reset and identity take 0.3 to 3 s, MD5 of a
# chip 0.5 s, write after erase 12 s at 460800, about 20 s at 230400 and 40 s at 115200, three times that on slow flash, a
# first boot with mkfs several seconds, and a phase that hangs ends at its deadline of 30 or 40 s.
PHASE_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 30.0, 40.0, 50.0, 75.0, 120.0)
# From an fsync on an SSD to the busy timeout of a locked database.
WRITE_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The light promises BUSY within 0.3 s of the plug.
BUSY_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
LABEL_STATES = ("printed", "failed")
_UNWELL = (Level.WARNING, Level.PROBLEM)


def new_registry() -> CollectorRegistry:
    """Return an empty registry, so that nothing outside this module needs to know the library."""
    return CollectorRegistry()


class Metrics:
    """All metrics of one station.

    `slots` are the labels of the slot map; later ones come by `add_slot`. `checks` are the words of the doctor.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(
        self, registry: CollectorRegistry, *, host: HostFacts, slots: Iterable[str] = (), checks: Iterable[str] = ()
    ) -> None:
        self._registry = registry
        self._checks = tuple(checks)
        self.log_events_dropped = 0
        """How many log events were thrown away so far."""
        self._make_counters()
        self._make_histograms()
        self._make_gauges()
        Info(
            "station_build",
            "Versions of this station; the value is always 1.",
            registry=registry,
        ).info({"version": host.station_version, "esptool": host.esptool_version, "kernel": host.kernel_version})
        ProcessCollector(registry=registry)
        self._make_label_sets()
        for slot in slots:
            self.add_slot(slot)

    def add_slot(self, slot: str) -> None:
        """Pre-create the label sets of a slot of the map; never call it for an unknown place."""
        for outcome in Outcome:
            self._jobs.labels(slot, outcome)
        for light in Light:
            self._slot_state.labels(slot, light)
        self._bytes_flashed.labels(slot)
        self._baud_fallbacks.labels(slot)

    def job_finished(self, slot: str, end: JobEnd, *, first_attempt: bool) -> None:
        """Count a job that was closed and committed; a job that only waits (pending) is not counted yet.

        `first_attempt` says whether this was the board's first attempt, as first pass yield counts it.
        """
        if end.state is not JobState.CLOSED or end.outcome is None:
            return
        if end.reason:
            self._reasons.labels(Reason(end.reason)).inc()
        self._jobs.labels(slot, end.outcome).inc()
        if first_attempt:
            self._first_attempts.labels(end.outcome).inc()

    def flash_vendor(self, vendor: str) -> None:
        """Count a board by who made its flash chip; `unknown` for everybody whom no list has."""
        self._flash_vendors.labels(vendor).inc()

    def visit_finding(self, reason: str) -> None:
        """Count a visit that never became a job."""
        self._findings.labels(Reason(reason)).inc()

    def phase_finished(self, phase: Phase, duration_s: float) -> None:
        """Note how long a phase took that ran, however it ended; skipped phases are not noted."""
        self._phases.labels(phase).observe(duration_s)

    def slot_to_busy(self, duration_s: float) -> None:
        """Note the time from the plug's uevent to the BUSY light."""
        self._busy.observe(duration_s)

    def slot_light(self, slot: str, light: Light) -> None:
        """Note what a slot of the map shows now."""
        for each in Light:
            self._slot_state.labels(slot, each).set(each is light)

    def bytes_flashed(self, slot: str, size_bytes: int) -> None:
        """Count bytes that reached a board's flash (before compression)."""
        self._bytes_flashed.labels(slot).inc(size_bytes)

    def baud_fallback(self, slot: str) -> None:
        """Count one step down the baud ladder."""
        self._baud_fallbacks.labels(slot).inc()

    def database_write(self, duration_s: float) -> None:
        """Note how long one commit took, waiting in its queue included."""
        self._writes.observe(duration_s)

    def database_backlog(self, rows: int) -> None:
        """Note how many finished results wait to be written."""
        self._backlog.set(rows)

    def hub_disturbed(self) -> None:
        """Count a whole hub that was disturbed; the log says which, and which slots it lost."""
        self._hub_disturbed.inc()

    def quarantined(self, slots: int) -> None:
        """Note how many slots of the map are in quarantine."""
        self._quarantined.set(slots)

    def pending_jobs(self, jobs: int, oldest_s: float) -> None:
        """Note how many boards are flashed and wait for their test, and how long the oldest has waited; 0 for none."""
        self._pending.set(jobs)
        self._pending_oldest.set(oldest_s)

    def second_place(self, *, behind: int, backup_age_s: float) -> None:
        """Note how many finished jobs the journal there does not have yet, and how old the newest backup is.

        Without any backup its age is infinite, so that an alert on a greater one sees it; without a second place both stay
        what they are at start: 0 and -1.
        """
        self._journal_behind.set(behind)
        self._backup_age.set(backup_age_s)

    def rejected(self, modules: int) -> None:
        """Note how many modules a person booked out of the current lot by hand; they are in no yield."""
        self._rejected.set(modules)

    def numbers_left(self, left: Mapping[str, int]) -> None:
        """Note how many serial numbers are left in each pool; pools are named by who grants their ranges."""
        for pool, numbers in left.items():
            self._numbers_left.labels(pool).set(numbers)

    def labels_waiting(self, labels: int) -> None:
        """Note how many labels wait for the printer."""
        self._labels_waiting.set(labels)

    def label_ended(self, state: str) -> None:
        """Count a label that was `printed`, or `failed` and is asked for by nobody but a person."""
        self._labels.labels(state).inc()

    def log_event_dropped(self) -> None:
        """Count a log event that was thrown away because nobody reads the log."""
        self.log_events_dropped += 1
        self._dropped.inc()

    def station_view(self, view: StationView) -> None:
        """Note everything the page shows of the station as a whole, and the light of each slot of the map."""
        self._ready.set(view.ready)
        self._udev_heard.set(view.udev_heard)
        self._writable.set(view.database_writable)
        self._recipe_loaded.set(view.recipe_loaded)
        self._light_healthy.set(view.light_healthy)
        self._unknown.set(sum(not slot.known for slot in view.slots))
        for slot in view.slots:
            self._slot_view(slot)
        found = Counts((diagnosis.check, diagnosis.level) for diagnosis in view.diagnoses)
        for check, level in product(self._checks, _UNWELL):
            self._doctor.labels(check, level).set(found[check, level])

    def render(self) -> bytes:
        """Return all samples in the Prometheus text format. Takes milliseconds: call it off the loop."""
        return generate_latest(_WithoutCreated(self._registry))

    def _slot_view(self, slot: SlotView) -> None:
        if slot.known:
            self.slot_light(slot.slot, slot.light)

    def _make_counters(self) -> None:
        registry = self._registry
        self._jobs = Counter("station_jobs_total", "Jobs closed.", ["slot", "outcome"], registry=registry)
        self._first_attempts = Counter(
            "station_first_attempts_total",
            "Boards by the outcome of their first attempt; PASS over all is the first pass yield.",
            ["outcome"],
            registry=registry,
        )
        self._reasons = Counter(
            "station_job_reasons_total", "Jobs closed without a PASS, by reason.", ["reason"], registry=registry
        )
        self._flash_vendors = Counter(
            "station_flash_vendor_total",
            "Boards by the vendor of their flash chip, at the end of their first attempt.",
            ["vendor"],
            registry=registry,
        )
        self._findings = Counter(
            "station_visit_findings_total", "Visits that never became a job, by reason.", ["reason"], registry=registry
        )
        self._bytes_flashed = Counter(
            "station_bytes_flashed_total", "Bytes written to flash, before compression.", ["slot"], registry=registry
        )
        self._baud_fallbacks = Counter(
            "station_baud_fallbacks_total", "Steps down the baud ladder.", ["slot"], registry=registry
        )
        self._hub_disturbed = Counter(
            "station_hub_disturbed_total", "Three or more slots of one hub lost at once.", registry=registry
        )
        self._labels = Counter(
            "station_labels_total", "Labels of boards that passed, by how they ended.", ["state"], registry=registry
        )
        self._dropped = Counter(
            "station_log_events_dropped_total", "Log events lost because nobody read the log.", registry=registry
        )

    def _make_histograms(self) -> None:
        registry = self._registry
        self._phases = Histogram(
            "station_phase_duration_seconds",
            "Duration of the phases of a job.",
            ["phase"],
            buckets=PHASE_BUCKETS_S,
            registry=registry,
        )
        self._busy = Histogram(
            "station_slot_to_busy_seconds",
            "From the plug's uevent to the BUSY light.",
            buckets=BUSY_BUCKETS_S,
            registry=registry,
        )
        self._writes = Histogram(
            "station_database_write_seconds",
            "Duration of a commit, waiting in its queue included.",
            buckets=WRITE_BUCKETS_S,
            registry=registry,
        )

    def _make_gauges(self) -> None:
        registry = self._registry
        self._slot_state = Gauge(
            "station_slot_state", "1 for the light that a slot shows, else 0.", ["slot", "light"], registry=registry
        )
        self._backlog = Gauge("station_database_backlog", "Finished results not yet written.", registry=registry)
        self._pending = Gauge("station_pending_jobs", "Boards flashed, waiting for their test.", registry=registry)
        self._pending_oldest = Gauge(
            "station_pending_oldest_seconds",
            "How long the oldest board has waited for its test; 0 when none waits.",
            registry=registry,
        )
        self._quarantined = Gauge(
            "station_slots_quarantined", "Slots that failed board after board and make none.", registry=registry
        )
        self._journal_behind = Gauge(
            "station_journal_behind_jobs",
            "Finished jobs not yet in the journal in the second place.",
            registry=registry,
        )
        self._backup_age = Gauge(
            "station_backup_age_seconds",
            "Age of the newest backup; +Inf when there is none, -1 without a second place.",
            registry=registry,
        )
        self._backup_age.set(-1)
        self._numbers_left = Gauge(
            "station_serial_numbers_left",
            "Serial numbers that this station can still hand out, by pool.",
            ["pool"],
            registry=registry,
        )
        self._labels_waiting = Gauge("station_labels_waiting", "Labels that wait for the printer.", registry=registry)
        self._rejected = Gauge(
            "station_rejected_modules",
            "Modules booked out of the current lot by hand, without a MAC.",
            registry=registry,
        )
        self._ready = Gauge("station_ready", "1 when the station can take a board.", registry=registry)
        self._udev_heard = Gauge("station_udev_heard", "1 when plugs are heard of.", registry=registry)
        self._writable = Gauge("station_database_writable", "1 when records can be written.", registry=registry)
        self._recipe_loaded = Gauge("station_recipe_loaded", "1 when a verified recipe is loaded.", registry=registry)
        self._light_healthy = Gauge("station_light_healthy", "1 when the status light works.", registry=registry)
        self._unknown = Gauge(
            "station_unknown_places", "Programmers outside the slot map: shown, never flashed.", registry=registry
        )
        self._doctor = Gauge(
            "station_doctor_findings",
            "What the doctor found that is not well, by check.",
            ["check", "level"],
            registry=registry,
        )

    def _make_label_sets(self) -> None:
        for outcome in Outcome:
            self._first_attempts.labels(outcome)
        for counter, reason in product((self._reasons, self._findings), Reason):
            counter.labels(reason)
        for phase in Phase:
            self._phases.labels(phase)
        for check, level in product(self._checks, _UNWELL):
            self._doctor.labels(check, level)
        for state in LABEL_STATES:
            self._labels.labels(state)
        for vendor in (*VENDORS.values(), UNKNOWN_VENDOR):
            self._flash_vendors.labels(vendor)


class _WithoutCreated:
    """The registry without its `_created` samples, which would nearly double a scrape and which nothing here asks for.

    prometheus-client can leave them out itself, but only by a switch for the whole process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
