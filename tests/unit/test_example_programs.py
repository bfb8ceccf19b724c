"""The programs of the example recipes, run here with something in the place of the hardware: what they do all day."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "deploy" / "recipes"
SENSOR = EXAMPLES / "wifi-sensor" / "files"
PATIENCE_S = 30.0
CONFIG = {
    "serial": "WS-000007",
    "client": "sensor-5ccf7fddc142",
    "name": "north",
    "room": "7",
    "broker": {"host": "broker", "port": 1883, "user": "u", "password": "p"},
    "topic": "sensors/WS-000007/temperature",
    "every_s": 60,
}


class Over(BaseException):
    """The end of a program that has none."""


class Clock:
    """Time that passes when somebody sleeps; after so many sleeps it is over."""

    def __init__(self, sleeps: int) -> None:
        self.left, self.slept_s = sleeps, 0.0

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        self.slept_s += seconds
        self.left -= 1
        if not self.left:
            raise Over

    def sleep_ms(self, milliseconds: int) -> None:
        """Sleep."""
        self.sleep(milliseconds / 1000)


class Pin:
    """A pin that remembers what was written to it."""

    OUT = 1
    written: list[tuple[int, int]]

    def __init__(self, number: int, mode: int = -1, *, value: int = 0) -> None:
        self.number, self.level = number, value

    def __call__(self, level: int | None = None) -> int:
        """Read it, or write it."""
        if level is not None:
            self.level = int(level)
            Pin.written.append((self.number, self.level))
        return self.level


class Radio:
    """A station that has joined, or never does."""

    def __init__(self, *, joins: bool) -> None:
        self.joins, self.asked = joins, 0

    def active(self, on: bool) -> None:  # noqa: FBT001 - as the port has it
        """Switch it on."""
        assert on

    def isconnected(self) -> bool:
        """Whether it has joined."""
        return self.joins

    def connect(self) -> None:
        """Join the network that is kept in flash."""
        self.asked += 1


def program(path: Path) -> Any:
    """Run a program as a module; an import would leave a cache in the tree, which no recipe may hold."""
    module = ModuleType(path.stem)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)  # noqa: S102 - our own file
    return module


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put modules of a board where imports look."""

    def put(**modules: Any) -> None:
        for name, module in modules.items():
            monkeypatch.setitem(sys.modules, name, module)

    Pin.written = []
    return put


def test_blink_blinks_gpio2(board: Callable[..., None]) -> None:
    """GPIO2 goes low (the LED of an ESP-01S lights) and high in turn, half a second each, for ever."""
    clock = Clock(6)
    board(machine=SimpleNamespace(Pin=Pin), time=clock)
    with pytest.raises(Over):
        program(EXAMPLES / "blink" / "files" / "main.py")
    assert Pin.written == [(2, 0), (2, 1)] * 3
    assert clock.slept_s == 3.0


def test_the_check_of_the_led_ends_with_it_off(board: Callable[..., None]) -> None:
    """It reads both levels back, and leaves the pin high: the LED dark, and the boot pin as the next start needs it."""
    board(machine=SimpleNamespace(Pin=Pin), time=Clock(100))
    assert program(EXAMPLES / "blink" / "checks" / "led.py").check() == {"low": 0, "high": 1}
    assert Pin.written[-1] == (2, 1)


def sensor(
    board: Callable[..., None], tmp_path: Path, *, clock: Clock, radio: Radio, found: list[bytes]
) -> list[tuple[str, str]]:
    """Give main.py of the sensor everything that it imports; what it publishes is in the list."""
    said: list[tuple[str, str]] = []
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    thermometer = SimpleNamespace(
        scan=lambda: found, convert_temp=lambda: None, read_temp=lambda rom: 21.5 if rom == b"first" else -1.0
    )

    def reset() -> None:
        raise Over("reset")

    board(
        time=clock,
        network=SimpleNamespace(STA_IF=0, WLAN=lambda _interface: radio),
        machine=SimpleNamespace(Pin=Pin, reset=reset),
        onewire=SimpleNamespace(OneWire=lambda pin: pin.number),
        ds18x20=SimpleNamespace(DS18X20=lambda _wire: thermometer),
        mqtt=SimpleNamespace(publish=lambda _broker, _client, topic, message: said.append((topic, message))),
    )
    settings = program(SENSOR / "lib" / "settings.py")
    load = settings.load
    settings.load = lambda: load(str(config))
    board(settings=settings, thermometer=program(SENSOR / "lib" / "thermometer.py"))
    return said


def test_the_sensor_sends_what_it_measures(board: Callable[..., None], tmp_path: Path) -> None:
    """Once a minute the temperature of the first thermometer goes out under the board's own topic."""
    clock = Clock(6)
    said = sensor(board, tmp_path, clock=clock, radio=Radio(joins=True), found=[b"first", b"second"])
    with pytest.raises(Over):
        program(SENSOR / "main.py")
    assert said == [("sensors/WS-000007/temperature", "21.50")] * 3
    assert clock.slept_s == 3 * (60 + 0.75)


@pytest.mark.parametrize(("joins", "found"), [(True, []), (False, [b"first"])])
def test_a_sensor_that_cannot_send_starts_anew(
    board: Callable[..., None], tmp_path: Path, *, joins: bool, found: list[bytes]
) -> None:
    """Without a thermometer, or without its network, it resets itself after ten rounds and never sends anything."""
    radio = Radio(joins=joins)
    said = sensor(board, tmp_path, clock=Clock(10_000), radio=radio, found=found)
    with pytest.raises(Over, match="reset"):
        program(SENSOR / "main.py")
    assert said == []
    assert radio.asked == (0 if joins else 10)


def test_settings_that_lack_something_are_not_taken(tmp_path: Path) -> None:
    """A config.json without a topic stops the program with its name, instead of a board that sends nowhere."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({key: value for key, value in CONFIG.items() if key != "topic"}))
    with pytest.raises(ValueError, match="lacks topic"):
        program(SENSOR / "lib" / "settings.py").load(str(config))


def test_the_check_of_memory_finds_bits_that_do_not_hold(board: Callable[..., None]) -> None:
    """Memory that keeps what is written is intact, and so large; memory with a stuck bit is not."""
    check = program(EXAMPLES / "bare-repl" / "checks" / "memory.py")
    assert check.check() == {"largest_piece": 16384, "intact": True}

    class Stuck(bytearray):
        """One bit of one byte is always 0."""

        def __setitem__(self, at: Any, value: Any) -> None:
            super().__setitem__(at, value & 0xFE if at == 64 else value)

    def scarce(size: int) -> bytearray:
        if size > 9 * 1024:
            raise MemoryError
        return Stuck(size)

    check.bytearray = scarce
    assert check.check() == {"largest_piece": 9 * 1024, "intact": False}


def test_the_sensor_speaks_mqtt_to_a_broker() -> None:
    """CONNECT with name and password, then PUBLISH, retained, then DISCONNECT: the bytes of MQTT 3.1.1; a refusal raises."""
    mqtt = program(SENSOR / "lib" / "mqtt.py")
    for answer, refused in ((b"\x20\x02\x00\x00", False), (b"\x20\x02\x00\x05", True)):
        heard = bytearray()
        with socket.create_server(("127.0.0.1", 0)) as server:
            broker = threading.Thread(target=play_broker, args=(server, answer, heard))
            broker.start()
            at = {"host": "127.0.0.1", "port": server.getsockname()[1], "user": "u", "password": "p" * 120}
            try:
                if refused:
                    with pytest.raises(OSError, match="refused by the broker: 5"):
                        mqtt.publish(at, "sensor-1", "a/b", "21.50")
                else:
                    mqtt.publish(at, "sensor-1", "a/b", "21.50")
            finally:
                broker.join(PATIENCE_S)
        body = b"\x00\x04MQTT\x04\xc2\x00\x3c\x00\x08sensor-1\x00\x01u\x00\x78" + b"p" * 120
        connect = b"\x10\x91\x01" + body
        assert len(body) == 0x91
        said = b"" if refused else b"\x31\x0a\x00\x03a/b21.50\xe0\x00"
        assert bytes(heard) == connect + said


def play_broker(server: socket.socket, answer: bytes, heard: bytearray) -> None:
    """Take one client: answer its first packet, and keep everything that it says."""
    client, _ = server.accept()
    with client:
        client.settimeout(PATIENCE_S)
        heard += client.recv(4096)
        client.sendall(answer)
        while data := client.recv(4096):
            heard += data
