"""Whether a board that the records know may be made now: the policy for known boards, before the first write.

Pure: what the records say and what the recipe allows in, a reason of the closed list out. A board is never flashed by
itself that a person marked, that passed and still carries what it passed with, or that was judged not good too often.
"""

from __future__ import annotations

from station.errors import JobEnded
from station.model import BoardMark, FlashChip, KnownBoard, LotState
from station.reasons import Reason
from station.recipe import Recipe

_NEVER = (BoardMark.GOLDEN, BoardMark.RED)


def refuse_marked(known: KnownBoard | None, *, again: bool) -> None:
    """Raise `JobEnded` for a board that a person marked; a returned or scrapped one may be made where a person asks."""
    if known is None:
        return
    for mark in sorted(known.marks):
        if mark in _NEVER or not (again or known.rework_open):
            raise JobEnded(Reason.MARKED_BOARD, mark)


def admit(known: KnownBoard | None, recipe: Recipe, *, again: bool) -> None:
    """Raise `JobEnded` unless this board may be flashed under this recipe now.

    `again` is a person asking for it, at the board. A rework is a named person's row, and overrides the attempts as well.
    """
    if known is None or known.rework_open:
        return
    passed = known.passes[0] if known.passes and not known.attempts_since_pass else None
    if passed is not None and not again:
        if passed.recipe_hash != recipe.hash:
            raise JobEnded(Reason.PASSED_BEFORE, passed.product)
        if recipe.policy.repeat == "refuse" or passed.lot_state is LotState.CLOSED:
            raise JobEnded(Reason.ALREADY_DONE, f"passed {passed.ended_at:%Y-%m-%d %H:%M} UTC")
    if known.judged_attempts >= recipe.policy.attempts:
        raise JobEnded(Reason.ATTEMPTS_USED_UP, str(known.judged_attempts))


def refuse_reused_mac(known: KnownBoard | None, chip: FlashChip) -> None:
    """Raise `JobEnded` when the records know this MAC on another flash chip, and nobody accepted this one (G-3)."""
    if known is None or known.flash_id is None or chip.jedec_id in (known.flash_id, *known.accepted_flash_ids):
        return
    raise JobEnded(Reason.MAC_REUSED, f"flash {chip} here, {known.flash_id:06x} before")
