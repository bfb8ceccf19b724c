"""The chip's modules as MicroPython's ESP8266 port has them, for code of the self-test that CPython executes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from station.model import FlashChip, Identity, Measurement
from station.network import proof_checks, set_up_checks
from station.recipe import LimitsSection, PolicySection, Recipe
from station.selftest import Check, checks_for, filesystem_checks, parse

IDENTITY = Identity(mac="5c:cf:7f:dd:c1:42", chip_id=0xDDC142, otp_words=(0x42000000, 0x0200DDC1, 0x5CCF7F, 0x005CCF7F))
FLASH = FlashChip(jedec_id=0x1440E0, size_bytes=1 << 20)
SEED = 0x0123456789ABCDEF


def image_with_trailer() -> bytes:
    """An image that ends as MicroPython's makeimg.py ends it."""
    body = bytearray(b"\xe9" + bytes(0x9003))
    struct.pack_into("<I", body, 0x8FFC, len(body))
    return bytes(body) + hashlib.md5(body[4:], usedforsecurity=False).digest()


IMAGE = image_with_trailer()


def recipe(*, has_filesystem: bool = True, firmware_version: str = "1.27.0", image: bytes = IMAGE) -> Recipe:
    """A recipe as load_recipe makes them."""
    return Recipe(
        name="thing",
        version="1",
        file="thing.toml",
        hash="0" * 64,
        image=image,
        firmware_path="thing.bin",
        firmware_sha256=hashlib.sha256(image).hexdigest(),
        firmware_version=firmware_version,
        minimum_flash_bytes=1 << 20 if has_filesystem else 1 << 19,
        has_filesystem=has_filesystem,
        flash_mode="dout",
        flash_frequency="40m",
        limits=LimitsSection(),
        policy=PolicySection(),
        file_sha256="0" * 64,
        canonical="{}",
    )


class Radio:
    """`network.WLAN(STA_IF)`."""

    def __init__(self) -> None:
        self.on = False
        self.broken = False
        self.history: list[bool] = []
        self.mac = bytes.fromhex("5ccf7fddc142")

    def active(self, *wanted: bool) -> bool | None:
        """Get or set."""
        if not wanted:
            return self.on
        self.on = wanted[0] and not self.broken
        self.history.append(self.on)
        return None

    def config(self, what: str) -> bytes:
        """Only the MAC."""
        assert what == "mac"
        return self.mac


class Board:
    """The chip's modules, as MicroPython's ESP8266 port has them, for code executed by CPython."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, old: bool = False) -> None:
        self.radio, self.access_point = Radio(), Radio()
        self.access_point.mac = b"the access point's MAC is another one by design"
        self.values: dict[str, Any] = {
            "freq": 80_000_000,
            "flash_id": 0x1440E0,
            "flash_size": 1 << 20,
            "check_fw": True,
            "mem_free": 30_000,
            "unique_id": bytes.fromhex("42c1dd00"),
            "version": "v1.27.0 on 2025-12-09",
        }
        self.synced = 0
        self.monkeypatch = monkeypatch
        self.modules: dict[str, Any] = {
            "machine": self._module(freq=lambda: self.values["freq"], unique_id=lambda: self.values["unique_id"]),
            "esp": self._module(
                flash_id=lambda: self.values["flash_id"],
                flash_size=lambda: self.values["flash_size"],
                check_fw=self._check_fw,
            ),
            "network": self._module(STA_IF=0, AP_IF=1, WLAN=self._wlan),
            "gc": self._module(collect=lambda: None, mem_free=lambda: self.values["mem_free"]),
            "time": self._module(sleep=lambda _seconds: None),
        }
        system = self._module(uname=self._uname, sync=self._sync, remove=os.remove)
        if old:  # 1.8.7 on: no names without the u, no os.sync, no esp.check_fw
            del system.sync
            del self.modules["esp"].check_fw
            for name, module in (("json", json), ("binascii", __import__("binascii")), ("hashlib", hashlib)):
                self.modules |= {name: None, f"u{name}": module}
            self.modules |= {"os": None, "uos": system}
        else:
            self.modules |= {"os": system}

    @staticmethod
    def _module(**names: object) -> Any:
        return SimpleNamespace(**names)

    def _wlan(self, interface: int) -> Radio:
        return self.access_point if interface else self.radio

    def _check_fw(self) -> bool:
        print("size: 36864\nmd5: 00")  # noqa: T201 - as modesp.c does
        return bool(self.values["check_fw"])

    def _uname(self) -> tuple[str, ...]:
        return ("esp8266", "esp8266", "2.2.0-dev(9422289)", self.values["version"], "ESP module (1M) with ESP8266")

    def _sync(self) -> None:
        self.synced += 1

    def run(self, check: Check) -> bytes:
        """What the check's code prints."""
        return self.execute(check.code)

    def execute(self, code: str) -> bytes:
        """What code prints."""
        printed = io.StringIO()
        with self.monkeypatch.context() as patch:
            for name, module in self.modules.items():
                patch.setitem(sys.modules, name, module)
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "<stdin>", "exec"), {})  # noqa: S102 - our own code, in a test
        return printed.getvalue().replace("\n", "\r\n").encode()

    def measure(self, of: Recipe) -> dict[str, Measurement]:
        """All measurements of all checks, by name."""
        checks = checks_for(of, IDENTITY, FLASH) + filesystem_checks(of, SEED) + set_up_checks(of.network, {})
        checks += proof_checks(of.network, {})
        return {taken.name: taken for check in checks for taken in parse(check, self.run(check))}
