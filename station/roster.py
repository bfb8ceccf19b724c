"""Which slot is in which place: the slots of the map, what is known about each, and the strangers beside them.

A place of the map is a slot for as long as the station runs. A programmer in any other place becomes the next free slot where
that is wanted (`usb.enroll`), and is else a stranger: shown, never opened, gone with its plug. Everything about a slot hangs
on its label, so no stranger ever has that of a slot. Used on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import structlog

from station.config import Config
from station.errors import ConfigurationError
from station.model import Programmer
from station.properties import Learned, SlotProperties, refusal
from station.qualification import adapter_kind
from station.slot import Bench, Slot
from station.slotmap import CONFIGURED, DEFAULT, KnownSlot, load_slot_map, next_label, read_taught, write_taught
from station.sockets import MovedHub, moved_hub

log = structlog.get_logger()


class Roster:
    """Every slot there is. `added` is told of each slot of the map."""

    def __init__(
        self, config: Config, bench: Bench, slot_map: Mapping[str, KnownSlot], *, added: Callable[[Slot], None]
    ) -> None:
        self.slots: dict[str, Slot] = {}
        """The slots of the map, by label."""
        self.moved: MovedHub | None = None
        """The slots that seem to be at another port, as far as what is attached tells."""
        self._config, self._bench, self._added = config, bench, added
        self._map: dict[str, KnownSlot] = {}
        self._strangers: dict[str, Slot] = {}
        for known in slot_map.values():
            self._add(known)

    def __iter__(self) -> Iterator[Slot]:
        """Every slot and every stranger."""
        return iter([*self.slots.values(), *self._strangers.values()])

    @property
    def shown(self) -> list[Slot]:
        """Every slot, and the strangers without those that belong to a hub that moved: one notice says so of them all."""
        explained = self.moved.places.values() if self.moved else ()
        strangers = (slot for place, slot in self._strangers.items() if place not in explained)
        return [*self.slots.values(), *strangers]

    @property
    def properties(self) -> dict[str, SlotProperties]:
        """What each slot of the map is, by label; may be asked from any thread."""
        return {label: slot.properties for label, slot in dict(self.slots).items()}

    def labels_of(self, places: Iterable[str]) -> list[str]:
        """Return what the slots in these places are called, in the order of the bench."""
        wanted = frozenset(places)
        return [slot.label for slot in self if slot.place in wanted]

    def siblings_of(self, label: str) -> tuple[str, ...]:
        """Return the labels of the other slots of the map that do the same work."""
        role = self.slots[label].properties.role
        return tuple(other for other, its in self.properties.items() if its.role is role and other != label)

    def slot_of(self, programmer: Programmer) -> Slot:
        """Return the slot this programmer is in; a place that has none becomes one, or a stranger."""
        place = programmer.place
        known = next((slot for slot in self.slots.values() if slot.place == place), None)
        return known or self._strangers.get(place) or self._enrolled(place) or self._stranger(programmer)

    def meet(self, slot: Slot, programmer: Programmer) -> None:
        """This programmer is plugged into this slot: what was learned with its kind holds from now on."""
        if slot.known:
            slot.become(self._map[slot.label].properties_with(adapter_kind(programmer)))

    def forget(self, slot: Slot) -> None:
        """The programmer of this slot is gone; a stranger is gone with it."""
        self._strangers.pop(slot.place, None)

    def look_for_moved_hub(self, attached: Iterable[str]) -> None:
        """Look whether slots of the map seem to be at another port, judged by the places where something is attached."""
        self.moved = moved_hub({label: slot.place for label, slot in self.slots.items()}, attached)

    def learn(self, slot: Slot, learned: Learned) -> str | None:
        """Take what a visit found out about its slot; return the kind of programmer it holds for, None if it makes no sense."""
        known, plug = self._map[slot.label], slot.plug
        kind = adapter_kind(plug.programmer) if plug is not None else known.adapter
        properties = known.properties_with(kind).learned(reset=learned.reset, gpio0=learned.gpio0)
        if refusal(properties):
            return None
        told = {name: source for name, source in known.evidence.items() if source in (CONFIGURED, DEFAULT)}
        self._map[slot.label] = replace(known, properties=properties, evidence=told, adapter=kind)
        log.info("slot.learned", slot=slot.label, reset=learned.reset, gpio0=learned.gpio0, evidence=learned.evidence)
        slot.become(properties)
        return kind

    def _add(self, known: KnownSlot) -> Slot:
        self._map[known.label] = known
        slot = self.slots[known.label] = Slot(known.label, known.place, self._bench, properties=known.properties)
        self._added(slot)
        return slot

    def _enrolled(self, place: str) -> Slot | None:
        """Make the next free slot of this place where that is wanted and can be kept."""
        if self._config.usb.enroll != "auto":
            return None
        label = next_label({label: slot.place for label, slot in self.slots.items()})
        try:
            write_taught(self._config.state_dir, {**read_taught(self._config.state_dir), label: place})
            known = load_slot_map(self._config)[label]
        except (OSError, ConfigurationError) as error:
            log.error("slot.not_enrolled", slot=label, place=place, problem=str(error))  # noqa: TRY400 - no traceback
            return None
        log.info("slot.enrolled", slot=label, place=place)
        return self._add(known)

    def _stranger(self, programmer: Programmer) -> Slot:
        label = programmer.hub_path or programmer.place
        label = f"{label}?" if label in self.slots else label
        stranger = self._strangers[programmer.place] = Slot(label, programmer.place, self._bench, known=False)
        return stranger
