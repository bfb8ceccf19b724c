"""What concerns the whole bench, and what to do about it: the lines above the slots, worst first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from station.properties import Gpio0, Role, SlotProperties
from station.reasons import MEANINGS, Reason, words_for
from station.views import Diagnosis, Level

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchState:
    """What the notices are about."""

    writable: bool
    held: int
    """Finished results that wait to be written."""
    image_changed: str
    has_recipe: bool
    lot_is_open: bool
    udev_heard: bool
    lights_healthy: bool
    slots: Mapping[str, SlotProperties]
    diagnoses: tuple[Diagnosis, ...] = ()
    """What the doctor found that is not well; only problems are said here."""
    unreleased: str = ""
    """Why the recipe may not be used; empty when it may."""
    disturbed_hubs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By name of the hub the slots that it lost."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """By label of the slot why it is in quarantine."""
    label_trouble: str = ""
    """Why labels are not printed; empty when they are, or nobody wants any."""
    moved_hub: str = ""
    """Labels of slots that seem to be at another USB port, `A1-A8`; empty when none does."""


def notices(bench: BenchState) -> tuple[str, ...]:
    """Return what has to be said about the whole bench; empty when all is well."""
    said = []
    if not bench.writable:
        said.append(f"{words_for(Reason.RECORDS_UNWRITABLE)}: {MEANINGS[Reason.RECORDS_UNWRITABLE].deed}")
    if bench.held:
        said.append(f"{bench.held} finished results wait to be written: do not switch the station off")
    if bench.image_changed:
        said.append(f"{words_for(Reason.IMAGE_CHANGED)}: {bench.image_changed}; restart the station on purpose")
    said += [
        f"{hub} disturbed ({_named(slots)}): its plug, its cable, its supply? Hands off, it goes on when it was still for 10 s"
        for hub, slots in bench.disturbed_hubs.items()
    ]
    said += [
        f"slot {label} quarantined: {why}; show it a golden or red board, or station slots release {label}"
        for label, why in bench.quarantined.items()
    ]
    said += _about_work(bench)
    without = [label for label in bench.slots if needs_test_slot(label, bench.slots)]
    if without:
        said.append(f'no slot can test what {_named(without)} flashed: give a slot role = "test" in the configuration')
    if bench.moved_hub:
        said.append(f"{bench.moved_hub} seem to be at another USB port: station slots moved")
    if bench.label_trouble:
        said.append(
            f"label printer: {bench.label_trouble}. The boards are good: keep them in order until they have labels"
        )
    if not bench.udev_heard:
        said.append("udev is silent: plugs are found by looking every few seconds only")
    if not bench.lights_healthy:
        said.append("the status light is dead: watch this page")
    said += [f"{each.check}: {each.said}: {each.fix}" for each in bench.diagnoses if each.level is Level.PROBLEM]
    return tuple(said)


def _about_work(bench: BenchState) -> list[str]:
    """What keeps the bench from making anything at all."""
    if not bench.has_recipe:
        return ["no recipe: set work.recipe in the configuration (station recipe new makes one), restart"]
    if bench.unreleased:
        return [f"{words_for(Reason.NOT_RELEASED, bench.unreleased)} (station recipe list)"]
    return [] if bench.lot_is_open else [f"{words_for(Reason.NO_WORK_ORDER)} (station lot open --by NAME)"]


def _named(labels: Sequence[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def slots_for_test(label: str, slots: Mapping[str, SlotProperties]) -> tuple[str, ...]:
    """Return the other slots where a board flashed in this one can be tested; those that do nothing else come first."""
    others = {other: properties for other, properties in slots.items() if other != label}
    only_test = tuple(other for other, properties in others.items() if properties.role is Role.TEST)
    return only_test or tuple(
        other
        for other, properties in others.items()
        if properties.role is Role.MAKE and properties.gpio0 is not Gpio0.ALWAYS_LOW
    )


def needs_test_slot(label: str, slots: Mapping[str, SlotProperties]) -> bool:
    """Whether a board flashed in this slot may have to be tested in another one, and none can do that."""
    properties = slots[label]
    never_here = properties.role is Role.FLASH or properties.gpio0 is Gpio0.ALWAYS_LOW
    return properties.flashes and never_here and not slots_for_test(label, slots)
