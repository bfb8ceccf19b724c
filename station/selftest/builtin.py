"""The checks that every board gets: who it is, its flash, its firmware, its clock, its memory, its radio. Pure.

What the functions that the code calls return: micropython `ports/esp8266/` (modesp.c, modmachine.c, network_wlan.c,
moduos.c). Who answers comes first: of another board's values nothing may be held against this one.
"""

from __future__ import annotations

from station.model import FlashChip, Identity, Measurement, chip_id_from_unique_id, format_chip_id, format_mac
from station.recipe import Recipe, trailer_problem
from station.selftest.flash_policy import Treatment, chip_in_words, treatment_of, vendor_of
from station.selftest.measuring import (
    HEX,
    JSON,
    OS,
    TIME,
    Check,
    Hex4,
    Hex6,
    Number,
    Text,
    answer_of,
    between,
    exactly,
    recorded,
)

IDENTITY_CODE = (
    f"{JSON}{HEX}import machine,network\n"
    # The station interface's address: the access point's differs by design (identity.md: its locally administered bit).
    "print(json.dumps([binascii.hexlify(network.WLAN(network.STA_IF).config('mac')).decode(),"
    "binascii.hexlify(machine.unique_id()).decode()]))\n"
)
# uname()[2] is the SDK's version, uname()[3] the firmware's: "v1.27.0 on 2025-12-09".
FIRMWARE_CODE = f"{JSON}{OS}u=os.uname()\nprint(json.dumps([u[3],u[2],u[4]]))\n"
CPU_FREQUENCY_CODE = "import machine\nprint(machine.freq())\n"
FLASH_CODE = "import esp\nprint('[%d,%d]'%(esp.flash_id()&0xffffff,esp.flash_size()))\n"
# esp.check_fw() prints size and MD5 of its own; builds before 1.8.3 have none.
FIRMWARE_INTACT_CODE = (
    f"{JSON}import esp\nr=esp.check_fw() if hasattr(esp,'check_fw') else None\nprint()\nprint(json.dumps(r))\n"
)
FREE_RAM_CODE = "import gc\ngc.collect()\nprint(gc.mem_free())\n"
# A supply that is too weak gives way when the radio starts (fault E-1); the radio is left as it was found.
WIFI_START_CODE = (
    f"{JSON}{TIME}import network\nw=network.WLAN(network.STA_IF)\na=w.active()\nw.active(True)\ntime.sleep(0.2)\n"
    "r=w.active()\nw.active(a)\nprint()\nprint(json.dumps(r))\n"
)

BUILTIN_NAMES = (
    "mac",
    "chip_id",
    "flash_id",
    "flash_policy",
    "firmware_version",
    "machine",
    "cpu_frequency",
    "flash_size",
    "firmware_intact",
    "free_ram",
    "wifi_start",
)
"""The measurements of these checks without which there is no PASS."""


def board_that_answers(identity: bytes, flash: bytes) -> tuple[Identity, FlashChip]:
    """Return who answers a REPL, from what IDENTITY_CODE and FLASH_CODE printed; raises `ReplGarbage`.

    A firmware tells its MAC, not its OTP words. The size is what the image's header says, not what the chip has.
    """
    mac_hex, unique_id = answer_of("identity", identity, tuple[Hex6, Hex4])
    jedec_id, size_bytes = answer_of("flash", flash, tuple[Number, Number])
    chip_id = chip_id_from_unique_id(bytes.fromhex(unique_id))
    return (
        Identity(mac=format_mac(bytes.fromhex(mac_hex)), chip_id=chip_id, otp_words=None),
        FlashChip(jedec_id=jedec_id, size_bytes=size_bytes),
    )


def builtin_checks(recipe: Recipe, identity: Identity, flash: FlashChip) -> tuple[Check, ...]:
    """Return them for the board that was flashed, in the order in which to run them."""
    limits = recipe.limits
    return (
        Check(
            name="identity",
            code=IDENTITY_CODE,
            answer=tuple[Hex6, Hex4],
            measure=lambda value: _measure_identity(value, identity),
        ),
        Check(
            name="flash",
            code=FLASH_CODE,
            answer=tuple[Number, Number],
            measure=lambda value: _measure_flash(value, recipe, flash),
        ),
        Check(
            name="firmware",
            code=FIRMWARE_CODE,
            answer=tuple[Text, Text, Text],
            measure=lambda value: _measure_firmware(value, recipe),
        ),
        Check(
            name="firmware_intact",
            code=FIRMWARE_INTACT_CODE,
            answer=bool | None,
            # An image without MicroPython's trailer is vouched for by its sha256; the board's own check cannot hold there.
            measure=lambda value: (
                recorded("firmware_intact", value)
                if trailer_problem(recipe.image)
                else exactly("firmware_intact", value, expected=True),
            ),
        ),
        Check(
            name="cpu_frequency",
            code=CPU_FREQUENCY_CODE,
            answer=Number,
            measure=lambda value: (between("cpu_frequency", value, limits.cpu_frequency_hz, unit="Hz"),),
        ),
        Check(
            name="free_ram",
            code=FREE_RAM_CODE,
            answer=Number,
            measure=lambda value: (between("free_ram", value, limits.free_ram_bytes, unit="B"),),
        ),
        Check(
            name="wifi_start",
            code=WIFI_START_CODE,
            answer=bool,
            measure=lambda value: (exactly("wifi_start", value, expected=True),),
            radio=True,
        ),
    )


def _measure_identity(value: tuple[str, str], identity: Identity) -> tuple[Measurement, ...]:
    mac, unique_id = bytes.fromhex(value[0]), bytes.fromhex(value[1])
    return (
        exactly("mac", format_mac(mac), identity.mac),
        exactly("chip_id", format_chip_id(chip_id_from_unique_id(unique_id)), format_chip_id(identity.chip_id)),
    )


def _measure_flash(value: tuple[int, int], recipe: Recipe, flash: FlashChip) -> tuple[Measurement, ...]:
    treatment = treatment_of(recipe.checks.flash_policy, value[0])
    return (
        exactly("flash_id", f"{value[0]:06x}", f"{flash.jedec_id & 0xFFFFFF:06x}"),
        exactly("flash_size", value[1], flash.size_bytes, unit="B"),
        recorded("flash_vendor", vendor_of(value[0])),
        Measurement(
            name="flash_policy",
            value=f"{treatment}: {chip_in_words(value[0])}" if treatment is Treatment.REJECT else str(treatment),
            within=treatment is not Treatment.REJECT,
        ),
    )


def _measure_firmware(value: tuple[str, str, str], recipe: Recipe) -> tuple[Measurement, ...]:
    version = value[0].partition(" on ")[0].removeprefix("v")
    return (
        exactly("firmware_version", version, recipe.firmware_version)
        if recipe.firmware_version
        else recorded("firmware_version", version),
        recorded("sdk_version", value[1]),
        exactly("machine", value[2], recipe.machine) if recipe.machine else recorded("machine", value[2]),
    )
