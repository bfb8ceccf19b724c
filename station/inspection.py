"""Reading a board without changing it: who it is, what it carries, and what the records say about it.

Nothing is written to its flash, and no job comes of it: one visit row with the finding `inspected`. A board in its loader
tells everything; one that runs its firmware tells who it is and which flash it has.
"""

from __future__ import annotations

from pathlib import Path

from station import selftest
from station.errors import FirmwareAnswers, JobEnded, ReplError
from station.jobrun import JobRun
from station.model import FlashChip, Identity, KnownBoard, Phase, format_chip_id
from station.reasons import Reason
from station.views import Progress


def inspect(run: JobRun) -> str:
    """Return in one line what was found, and leave the flash's content in `visit.dump` when that is set.

    Raises what the link raises, and `JobEnded` for a firmware that does not tell who it is.
    """
    try:
        identity = run.link.connect()
        run.claim(identity.mac)
        chip, mode = run.link.look_at_chip(), "in its loader"
        if run.visit.dump is not None:
            _dump(run, chip, run.visit.dump)
        run.link.back_to_first_rate()
    except FirmwareAnswers as answered:
        identity, chip = _ask_firmware(run, answered)
        run.claim(identity.mac)
        mode = "in its firmware" if run.visit.dump is None else "in its firmware, so its flash was not copied"
    size = "size unknown" if chip.size_bytes is None else f"{chip.size_bytes >> 10} KB"
    past = history(run.look_up(identity.mac))
    chip_id = format_chip_id(identity.chip_id)
    return f"{identity.mac}, chip ID {chip_id}, {mode}, flash {chip} ({size}); {past}"


def history(known: KnownBoard | None) -> str:
    """Return in a few words what the records say about a board."""
    if known is None:
        return "not on record"
    said = [f"{mark} board" for mark in sorted(known.marks)]
    said += [f"passed as {passed.product} {passed.ended_at:%Y-%m-%d %H:%M} UTC" for passed in known.passes]
    said.append(f"{known.attempts} attempts" if known.attempts != 1 else "1 attempt")
    if known.passes and known.attempts_since_pass:
        said.append("flashed again since then: do not ship")
    if known.rework_open:
        said.append("rework open")
    return ", ".join(said)


def _ask_firmware(run: JobRun, answered: FirmwareAnswers) -> tuple[Identity, FlashChip]:
    if not answered.micropython:
        raise answered
    deadline_s = run.tools.settings.check_deadline_s
    repl = run.tools.make_repl(run.link.line, run.visit.stop)
    try:
        repl.await_prompt(run.tools.settings.boot_deadline_s)
        found = selftest.board_that_answers(
            repl.run(selftest.IDENTITY_CODE, deadline_s), repl.run(selftest.FLASH_CODE, deadline_s)
        )
        repl.leave()
    except ReplError as error:
        raise JobEnded(Reason.NO_ANSWER, f"a firmware runs and does not tell who it is: {error}") from error
    return found


def _dump(run: JobRun, chip: FlashChip, into: Path) -> None:
    """Copy the flash into a file, checked by the chip's own MD5; raises `JobEnded` when it cannot be written."""
    if chip.size_bytes is None:
        raise JobEnded(Reason.FLASH_UNKNOWN, str(chip))
    size = chip.size_bytes

    def tell(done: int) -> None:
        run.tell(Progress(phase=Phase.CONNECT, fraction=done / size, note="copying the flash"))

    content = run.link.copy_flash(size, tell)
    try:
        # It holds what the board was given: Wi-Fi keys, passwords.
        into.touch(mode=0o600)
        into.write_bytes(content)
    except OSError as error:
        raise JobEnded(Reason.STATION_BUG, f"{into} cannot be written ({error.strerror})") from error
