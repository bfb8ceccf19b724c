"""What happens on the virtual bench, in order, and what must come of it: boards, faults, the operator and the expectations.

`plan` lays out the boards of a run from slots, count, seed and faults. `EXPECTED` is the closed list of outcomes written
down by hand, and `check_expectations` holds records against it. It must never be imported from, or derived from, the code
that judges boards.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from station.bench.chip import PUYA_1M, WINBOND_1M, Chip, make_chip
from station.bench.faults import USB_FAULT_TOKENS, Fault
from station.model import format_mac

# An OUI of Espressif's; its locally administered and multicast bits are clear.
OUI = bytes.fromhex("5ccf7f")
OTHER_OUI = bytes.fromhex("600194")


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be on record for one plugged board: a job with outcome and reason, or a visit with a finding."""

    outcome: str | None = None
    """PASS, FAIL, ERROR or ABORTED; None: no job, but a finding."""
    reasons: tuple[str, ...] = ("",)
    """Any of these; an empty string is no reason."""
    also: tuple[str, str] | None = None
    """State and reason of a second row that must be there."""


PASSES = Expected("PASS")
EXPECTED: dict[str, Expected] = {
    "no_answer": Expected(None, ("no_answer",)),
    "run_mode": Expected(None, ("not_in_download_mode",)),
    "echo": Expected(None, ("adapter_echo",)),
    "port_busy": Expected(None, ("port_busy",)),
    "noise": Expected("PASS|ERROR", ("", "link_unreliable")),
    "drop": Expected("ERROR", ("link_lost",)),
    "hang": Expected("ERROR", ("deadline",)),
    "unplug": Expected("ABORTED", ("unplugged",)),
    "removed": Expected("ABORTED", ("board_removed",)),
    "reset": Expected("ERROR", ("board_reset",)),
    "bad_md5": Expected("FAIL", ("verify_mismatch",)),
    "unstable_md5": Expected("ERROR", ("verify_unstable",)),
    "worn": Expected("FAIL", ("verify_mismatch",)),
    "write_protected": Expected("FAIL", ("flash_write_protected",)),
    "flash_dead": Expected("FAIL", ("flash_no_answer",)),
    "flash_unknown": Expected("ERROR", ("flash_unknown",)),
    "small_flash": Expected("FAIL", ("flash_too_small",)),
    "fake_flash": Expected("FAIL", ("flash_size_fake",)),
    "puya": PASSES,
    "puya_loses": Expected("FAIL", ("filesystem_lost_data",)),
    "needs_dout": PASSES,
    "slow_flash": PASSES,
    "no_boot": Expected("FAIL", ("no_boot",)),
    "boot_loop": Expected("FAIL", ("boot_loop",)),
    "brownout_wifi": Expected("FAIL", ("brownout",)),
    "fs_corrupt": Expected("FAIL", ("filesystem_corrupt",)),
    "repl_silent": Expected("FAIL", ("repl_silent",)),
    "repl_garbage": Expected("FAIL", ("repl_garbage",)),
    "fake_pass": Expected("FAIL", ("repl_garbage",)),
    "traceback": Expected("FAIL", ("check_raised",)),
    "out_of_limits": Expected("FAIL", ("out_of_limits",)),
    "slow_clock": PASSES,
    "little_ram": Expected("FAIL", ("out_of_limits",)),
    "loses_much": PASSES,
    "weak_radio": PASSES,
    "radio_dead": Expected("FAIL", ("out_of_limits",)),
    "gpio": PASSES,
    "brownout_once": Expected("FAIL", ("brownout",)),
    "crashes_once": PASSES,
    "ap_stays": Expected("FAIL", ("access_point_open",)),
    "forgets_network": PASSES,
    "swapped": Expected("ERROR", ("identity_mismatch",), also=("pending", "identity_mismatch")),
    "bad_mac": Expected("FAIL", ("identity_invalid",)),
    "wrong_chip": Expected("FAIL", ("wrong_chip",)),
    "twin_chip_id": PASSES,
    "duplicate_mac": Expected("ERROR", ("duplicate_mac",)),
    "reused_mac": Expected("ERROR", ("mac_reused",)),
    "soft_reset_hangs": PASSES,
    "no_soft_start": PASSES,
    "adapter_deaf": Expected(None, ("adapter_deaf",)),
    "adapter_hung": Expected(None, ("adapter_hung",)),
}
"""Fault token -> what must be on record, copied by hand from the list of outcomes (docs/outcomes.md)."""
UNDER_ANY_RECIPE = frozenset(
    {
        *("no_answer", "run_mode", "echo", "port_busy", "noise", "drop", "hang", "unplug", "removed", "reset"),
        *("bad_md5", "unstable_md5", "worn", "write_protected", "flash_dead", "flash_unknown", "slow_flash"),
        *("no_boot", "boot_loop", "repl_silent", "repl_garbage", "swapped", "bad_mac", "wrong_chip"),
        *("twin_chip_id", "duplicate_mac", "reused_mac", "adapter_deaf", "adapter_hung"),
    }
)
"""The faults of which the same must come whatever the recipe wants; what comes of the others is decided by its checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBoard:
    """One board of a run, and what must become of it."""

    slot: str
    chip: Chip
    expected: Expected
    exchange: Chip | None = None


@dataclass(slots=True, kw_only=True)
class Plan:
    """All boards of a run, per slot in the order in which they are plugged in."""

    boards: dict[str, list[PlannedBoard]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many plugs there will be."""
        return sum(len(boards) for boards in self.boards.values())

    @property
    def chips(self) -> tuple[Chip, ...]:
        """All boards of the run."""
        return tuple(board.chip for boards in self.boards.values() for board in boards)


def plan(
    slots: Sequence[str],
    boards: int,
    seed: int,
    faults: Sequence[tuple[str, Fault]],
    image: bytes,
    *,
    usb: bool = False,
    flash_ids: Sequence[int] = (WINBOND_1M,),
) -> Plan:
    """Lay out `boards` boards over `slots`; each fault applies to the first board of its slot.

    `image` is what a board in run mode has in its flash already. `flash_ids` go round the healthy boards; one with a fault
    has 1 MB. Raises what `check_faults` raises.
    """
    check_faults(slots[:boards], faults, usb=usb)
    dice = random.Random(seed)  # noqa: S311 - reproducible, not secret
    tails = dice.sample(range(1, 1 << 24), boards + len(slots) * 2)
    macs = {slot: OUI + tails.pop().to_bytes(3, "big") for slot in slots}
    result = Plan(boards={slot: [] for slot in slots})
    for number in range(boards):
        slot = slots[number % len(slots)]
        first = number < len(slots)
        own = tuple(fault for label, fault in faults if label == slot) if first else ()
        mac = _mac_for(own, macs) or (macs[slot] if first else OUI + tails.pop().to_bytes(3, "big"))
        swapped = any(fault.token == "swapped" for fault in own)
        other_mac = OUI + tails.pop().to_bytes(3, "big") if swapped else b""
        flash_id = WINBOND_1M if own else flash_ids[number % len(flash_ids)]
        result.boards[slot] += _boards_of(slot, mac, own, seed + number, image, other_mac, flash_id)
    for _, fault in faults:
        if fault.token == "duplicate_mac" and fault.argument is not None:
            first_there = result.boards[fault.argument][0]
            result.boards[fault.argument][0] = PlannedBoard(
                slot=fault.argument, chip=first_there.chip, expected=EXPECTED["duplicate_mac"]
            )
    return result


def fresh_board(
    slot: str, faults: tuple[Fault, ...], *, macs: Mapping[str, bytes], seed: int, image: bytes, usb: bool
) -> PlannedBoard:
    """One more board for `slot`, with a MAC that none of its faults wants otherwise; another `seed` is another board.

    `macs` are those of the boards there are, by slot. Raises what `check_faults` raises.
    """
    check_faults(tuple(macs), [(slot, fault) for fault in faults], usb=usb)
    dice = random.Random(f"fresh board {seed}")  # noqa: S311 - reproducible, not secret
    reused = macs[slot] if any(fault.token == "reused_mac" for fault in faults) else None
    mac = _mac_for(faults, macs) or reused or OUI + dice.randbytes(3)
    return _boards_of(slot, mac, faults, seed, image, OUI + dice.randbytes(3))[-1]


def check_faults(slots: Sequence[str], faults: Sequence[tuple[str, Fault]], *, usb: bool = False) -> None:
    """Raise ValueError for a fault on, or compared with, a slot that is not one of `slots`: those that get a board.

    A fault that only USB devices have is refused but for `usb`.
    """
    for slot, fault in faults:
        if fault.token in USB_FAULT_TOKENS and not usb:
            raise ValueError(f"fault {slot}:{fault}: only the adapters of `station bench --usb` have it")
        other = fault.argument if fault.token in ("twin_chip_id", "duplicate_mac") else None
        for named in (slot, other or slot):
            if named not in slots:
                raise ValueError(f"fault {slot}:{fault}: slot {named} has no board; slots: {', '.join(slots)}")
        if other == slot:
            raise ValueError(f"fault {slot}:{fault}: name another slot than {slot} itself")


def _mac_for(faults: tuple[Fault, ...], macs: Mapping[str, bytes]) -> bytes | None:
    for fault in faults:
        if fault.token == "twin_chip_id" and fault.argument is not None:
            return OTHER_OUI + macs[fault.argument][3:]
        if fault.token == "duplicate_mac" and fault.argument is not None:
            return macs[fault.argument]
    return None


def _boards_of(
    slot: str,
    mac: bytes,
    faults: tuple[Fault, ...],
    seed: int,
    image: bytes,
    other_mac: bytes,
    flash_id: int = WINBOND_1M,
) -> list[PlannedBoard]:
    tokens = {fault.token for fault in faults}
    there_already = image if "run_mode" in tokens else b""
    # What comes of a fault that only a USB device has depends on when it strikes; nobody judges that here.
    expected = EXPECTED.get(faults[0].token, PASSES) if faults else PASSES
    chip = make_chip(mac=mac, faults=faults, seed=seed, image=there_already, jedec_id=flash_id)
    exchange = make_chip(mac=other_mac, seed=seed + 1) if "swapped" in tokens else None
    board = PlannedBoard(slot=slot, chip=chip, expected=expected, exchange=exchange)
    if "reused_mac" not in tokens:
        return [board]
    # The records must know the MAC first: a healthy board with it, and then another one with another flash chip.
    another = make_chip(mac=mac, seed=seed, jedec_id=PUYA_1M)
    return [
        PlannedBoard(slot=slot, chip=chip, expected=PASSES),
        PlannedBoard(slot=slot, chip=another, expected=expected),
    ]


def check_expectations(
    the_plan: Plan, jobs: Sequence[dict[str, object]], visits: Sequence[dict[str, object]]
) -> list[str]:
    """Return a sentence for every planned board whose record is not what it must be; empty when all are.

    `jobs` and `visits` are as `station demo --json` prints them, in the order in which they began.
    """
    problems: list[str] = []
    for slot, boards in the_plan.boards.items():
        mine = [visit for visit in visits if visit["slot"] == slot]
        if len(mine) != len(boards):
            problems.append(f"{slot}: {len(boards)} boards were plugged in, {len(mine)} visits are on record")
        for board, visit in zip(boards, mine, strict=False):
            rows = [job for job in jobs if job["visit"] == visit["visit"]]
            problem = _problem(board.expected, visit, rows)
            if problem:
                problems.append(f"{slot} {format_mac(board.chip.mac)}: {problem}")
    return problems


def _problem(expected: Expected, visit: dict[str, object], rows: Sequence[dict[str, object]]) -> str:
    found = [(row["state"], row["outcome"], row["reason"]) for row in rows]
    if expected.outcome is None:
        if rows or visit["finding"] not in expected.reasons:
            return f"expected the finding {expected.reasons}, got {visit['finding']!r} and jobs {found}"
        return ""
    if expected.also is not None and not any((row["state"], row["reason"]) == expected.also for row in rows):
        return f"expected a second row {expected.also}, got {found}"
    closed = [row for row in rows if row["state"] == "closed"]
    if len(closed) != 1:
        return f"expected one closed job, got {found} and the finding {visit['finding']!r}"
    outcome, reason = closed[0]["outcome"], closed[0]["reason"] or ""
    if outcome not in expected.outcome.split("|") or reason not in expected.reasons:
        return f"expected {expected.outcome} {expected.reasons}, got {outcome} {reason!r}"
    return ""
