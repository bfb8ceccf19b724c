"""The faults the virtual bench can play, by the tokens of the closed list of outcomes.

A fault is a token and, for some, an argument: `noise@0.001`, `hang@40`, `twin_chip_id@A2`. This module promises that
every token of that list is known here, that an argument is checked where it is parsed, and that a wrong one is refused with a
message that names it and what is accepted. It must never decide what a fault does: the part of the bench that plays it
does.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class ArgumentKind(StrEnum):
    """What a fault takes after its `@`."""

    NONE = "nothing"
    PROBABILITY = "a probability above 0, up to 1"
    PERCENT = "a percentage of the write, 0 to 100"
    SLOT = "a slot label such as A2"
    VARIANT = "a variant, or nothing"
    CHOICE = "a variant"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one board: its token and the text after `@`, None when there is none."""

    token: str
    argument: str | None = None

    def __str__(self) -> str:
        return self.token if self.argument is None else f"{self.token}@{self.argument}"

    @property
    def number(self) -> float:
        """The argument as a number: a probability or a percentage. ValueError when it has none."""
        if self.argument is None:
            raise ValueError(f"fault {self.token} has no number")
        return float(self.argument)


_LISTED: dict[str, tuple[ArgumentKind, str]] = {
    "no_answer": (ArgumentKind.NONE, "nothing at any baud, not even the boot message"),
    "run_mode": (ArgumentKind.NONE, "GPIO0 is never low: the board always starts what is in its flash"),
    "echo": (ArgumentKind.NONE, "TX and RX are shorted: our own bytes come back"),
    "port_busy": (ArgumentKind.NONE, "another process has the tty"),
    "noise": (
        ArgumentKind.PROBABILITY,
        "P: chance that a byte is corrupted at 460800, less by the cube of a lower baud",
    ),
    "drop": (ArgumentKind.PERCENT, "N: stops answering at N % of every write, until the next reset by the lines"),
    "hang": (ArgumentKind.PERCENT, "N: after N % of a write no loader command is answered ever again"),
    "unplug": (ArgumentKind.PERCENT, "N: the programmer is pulled at N % of the write"),
    "removed": (ArgumentKind.PERCENT, "N: the board is lifted at N % of the write, the programmer stays"),
    "reset": (ArgumentKind.PERCENT, "N: the board resets itself once in every write, at N %"),
    "bad_md5": (ArgumentKind.NONE, "the chip answers the same wrong MD5 every time"),
    "unstable_md5": (ArgumentKind.NONE, "the chip answers another wrong MD5 each time"),
    "worn": (ArgumentKind.NONE, "flash bits that are stuck"),
    "write_protected": (ArgumentKind.NONE, "the flash ignores every erase and program"),
    "flash_dead": (ArgumentKind.VARIANT, "the flash does not answer: id FFFFFF, or with @000000 that"),
    "flash_unknown": (ArgumentKind.NONE, "the flash id names no known size"),
    "small_flash": (ArgumentKind.NONE, "a 512 KB flash"),
    "fake_flash": (ArgumentKind.NONE, "the flash claims 1 MB and wraps at 512 KB"),
    "puya": (ArgumentKind.NONE, "a PUYA flash: vendor 85, erases in 8 ms"),
    "puya_loses": (ArgumentKind.NONE, "a PUYA flash that forgets at each reset, hard or soft, what the firmware wrote"),
    "needs_dout": (ArgumentKind.NONE, "the board starts only an image whose flash mode is dout"),
    "slow_flash": (ArgumentKind.NONE, "flash three times slower than usual"),
    "no_boot": (ArgumentKind.NONE, "the image is fine and no firmware comes up"),
    "boot_loop": (ArgumentKind.NONE, "the firmware restarts for ever"),
    "brownout_wifi": (ArgumentKind.NONE, "the board resets when Wi-Fi starts"),
    "fs_corrupt": (ArgumentKind.NONE, "the firmware says for ever that its filesystem looks corrupt"),
    "repl_silent": (ArgumentKind.NONE, "the firmware starts and gives no prompt"),
    "repl_garbage": (ArgumentKind.VARIANT, "a prompt, then nonsense"),
    "fake_pass": (ArgumentKind.NONE, "the REPL prints PASS without the nonce of the run"),
    "traceback": (ArgumentKind.NONE, "a check raises on the board"),
    "out_of_limits": (ArgumentKind.VARIANT, "a measurement outside its limits"),
    "slow_clock": (ArgumentKind.NONE, "the CPU stays at 80 MHz whatever is asked for"),
    "little_ram": (ArgumentKind.NONE, "most of the heap is not there"),
    "loses_much": (ArgumentKind.NONE, "a flash that forgets at a reset what the firmware wrote beyond 48 KiB"),
    "weak_radio": (ArgumentKind.NONE, "the radio hears everything 45 dB too weak"),
    "radio_dead": (ArgumentKind.NONE, "the radio cannot be switched on"),
    "gpio": (ArgumentKind.CHOICE, "pin and state: GPIO0 or GPIO2 tied to GND or VCC, or without its pull-up"),
    "brownout_once": (ArgumentKind.NONE, "the board resets the first time Wi-Fi starts, and never again"),
    "crashes_once": (ArgumentKind.NONE, "the firmware's first start ends in a watchdog reset, the next one does not"),
    "ap_stays": (ArgumentKind.NONE, "the access point is on again after every restart"),
    "forgets_network": (ArgumentKind.NONE, "credentials of a network are not kept"),
    "swapped": (ArgumentKind.NONE, "another board answers in run mode"),
    "bad_mac": (ArgumentKind.VARIANT, "no valid MAC: zero, or with @blank, @ff, @multicast, @oui those"),
    "wrong_chip": (ArgumentKind.NONE, "an ESP32 sits in the slot"),
    "twin_chip_id": (ArgumentKind.SLOT, "SLOT: same chip ID as the board in SLOT, another MAC"),
    "duplicate_mac": (ArgumentKind.SLOT, "SLOT: same MAC as the board in SLOT, both alive"),
    "reused_mac": (ArgumentKind.NONE, "a MAC the records know with another flash id"),
    "soft_reset_hangs": (
        ArgumentKind.NONE,
        "after a start by software a reset by software ends in silence, until EN or the power goes",
    ),
    "no_soft_start": (ArgumentKind.NONE, "the loader does not start the firmware when it is asked to"),
    "adapter_deaf": (
        ArgumentKind.NONE,
        "after a few answers the programmer returns nothing until it is plugged in again",
    ),
    "adapter_hung": (ArgumentKind.NONE, "the programmer answers no control request until it is plugged in again"),
}

USB_FAULT_TOKENS: dict[str, str] = {
    "usb_probe_stall": "the adapter stalls the driver's first request, so that no tty appears",
    "usb_limited": "a limited clone: it stalls the request by which the driver finds out, and still works",
    "usb_control_stuck": "from the middle of a job on no control request is answered: lines and rate stay as they are",
    "usb_in_halted": "in the middle of a job reading stops, without any error, until the port is opened again",
    "usb_out_stuck": "from the middle of a job on nothing that is written leaves; closing the port takes half a minute",
}
"""Faults of an adapter that only `station bench --usb` has, each until it is plugged in again. No list of outcomes has them:
what the station makes of one depends on when it strikes."""

FAULT_TOKENS: dict[str, str] = {token: description for token, (_, description) in _LISTED.items()}
"""Every token, in the order of the list of outcomes, with one line that says what it does and what its argument is."""

_VARIANTS: dict[str, tuple[str, ...]] = {
    "flash_dead": ("ffffff", "000000"),
    "bad_mac": ("zero", "blank", "ff", "multicast", "oui"),
    "gpio": ("0low", "0high", "0floating", "2low", "2high", "2floating"),
}
_SLOT = re.compile(r"[A-Z][1-9][0-9]?")


def parse_fault(text: str) -> Fault:
    """Read `TOKEN` or `TOKEN@ARGUMENT`; ValueError says what is wrong with it and what is accepted."""
    token, at, argument = text.partition("@")
    if token not in _LISTED and token not in USB_FAULT_TOKENS:
        known = ", ".join((*FAULT_TOKENS, *USB_FAULT_TOKENS))
        raise ValueError(f"unknown fault {token!r}; the faults are: {known}")
    kind = _LISTED[token][0] if token in _LISTED else ArgumentKind.NONE
    if kind is ArgumentKind.NONE and at:
        raise ValueError(f"fault {token} takes no argument, but {text!r} gives it {argument!r}; write {token}")
    if kind is ArgumentKind.VARIANT and not at:
        return Fault(token)
    if not at and kind is not ArgumentKind.NONE:
        raise ValueError(f"fault {token} needs an argument: {token}@ and {kind.value}")
    if at and not _suits(token, kind, argument):
        variants = _VARIANTS.get(token)
        accepted = f"one of {', '.join(variants)}" if variants else kind.value
        raise ValueError(f"fault {token} cannot take {argument!r}: after {token}@ comes {accepted}")
    return Fault(token, argument if at else None)


def parse_slot_fault(text: str) -> tuple[str, Fault]:
    """Read `SLOT:TOKEN[@ARGUMENT]` into the slot label and the fault; ValueError says what is wrong with it."""
    slot, colon, fault = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} names no slot: write SLOT:FAULT, for example A1:{text}")
    if not _SLOT.fullmatch(slot):
        raise ValueError(f"{slot!r} in {text!r} is no slot label: slots are A1 to A8, B1 and so on")
    return slot, parse_fault(fault)


def _suits(token: str, kind: ArgumentKind, argument: str) -> bool:
    """Whether this argument is of the kind this token takes."""
    match kind:
        case ArgumentKind.PROBABILITY:
            number = _number(argument)
            return number is not None and 0 < number <= 1
        case ArgumentKind.PERCENT:
            number = _number(argument)
            return number is not None and 0 <= number <= 100  # noqa: PLR2004 - per cent
        case ArgumentKind.SLOT:
            return _SLOT.fullmatch(argument) is not None
        case ArgumentKind.VARIANT | ArgumentKind.CHOICE:
            return argument in _VARIANTS[token] if token in _VARIANTS else argument != ""
        case ArgumentKind.NONE:
            return False


def _number(text: str) -> float | None:
    """The text as a plain decimal number; None when it is something else (`nan`, `1e3` and blanks included)."""
    return float(text) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else None
