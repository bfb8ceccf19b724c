"""What the page says of a hub that hangs at another USB port: one line, instead of a tile for every socket."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_floor import World, play


def place(ports: str) -> str:
    """An ID_PATH as udev writes it."""
    return f"pci-0000:00:14.0-usb-0:{ports}:1.0"


def test_a_hub_that_moved_is_one_notice(tmp_path: Path) -> None:
    """Its programmers are no unknown tiles and are not opened; another stranger still is one; plugged back, it is over."""
    known = {f"A{port}": place(f"2.{port}") for port in range(1, 4)}
    said = "A1-A3 seem to be at another USB port: station slots moved"

    async def story(world: World) -> None:
        world.start()
        for port in (1, 2, 3):
            world.plug(place(f"3.{port}"), port)
        world.plug(place("7"), 4)
        view = world.floor.view()
        assert [notice for notice in view.notices if "another USB port" in notice] == [said]
        assert [slot.slot for slot in view.slots if slot.known] == list(known)
        assert [slot.place for slot in view.slots if not slot.known] == [place("7")]
        world.floor.tick()
        assert world.records.visits(10) == ()
        world.pull(place("3.2"))
        assert said in world.floor.view().notices
        for port in (1, 3):
            world.pull(place(f"3.{port}"))
        assert said not in world.floor.view().notices
        world.plug(place("2.1"), 1)
        world.plug(place("3.2"), 2)
        assert said not in world.floor.view().notices
        assert place("3.2") in [slot.place for slot in world.floor.view().slots]

    play(tmp_path, story, slots=known)
