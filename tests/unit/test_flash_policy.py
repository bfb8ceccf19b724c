"""The flash vendor policy: what becomes of a board for the sake of its flash chip, and before which byte is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.model import FlashChip, Outcome
from station.recipe import FlashPolicyCheck
from station.selftest import UNKNOWN_VENDOR, VENDORS, fill_share, required_measurements, vendor_of
from station.selftest.flash_policy import READ_BACK_SHARE, Treatment, treatment_of
from tests.unit.job_rig import UNTOUCHED, visited
from tests.unit.scripted_board import ScriptedBoard
from tests.unit.small_image import small_recipe

PUYA, ZBIT, BOYA, WINBOND, NOBODY = 0x146085, 0x14605E, 0x144068, 0x1440EF, 0x144077


@pytest.mark.parametrize(
    ("jedec_id", "treatment"),
    [
        (PUYA, Treatment.READ_BACK),
        (ZBIT, Treatment.READ_BACK),
        (BOYA, Treatment.READ_BACK),
        (NOBODY, Treatment.READ_BACK),
        (WINBOND, Treatment.ALLOW),
        (0x1440E0, Treatment.ALLOW),
    ],
)
def test_by_default_nobody_is_rejected_by_id_alone(jedec_id: int, treatment: Treatment) -> None:
    """Vendors that lost data before, and those that nobody knows, are read back; everybody else is allowed."""
    assert treatment_of(FlashPolicyCheck(), jedec_id) is treatment


@pytest.mark.parametrize(
    ("policy", "treatment"),
    [
        (FlashPolicyCheck(reject=("0x85",)), Treatment.REJECT),  # the stricter of two that are equally near
        (FlashPolicyCheck(reject=("all",)), Treatment.READ_BACK),
        (FlashPolicyCheck(reject=("all",), read_back=()), Treatment.REJECT),
        (FlashPolicyCheck(reject=("0x85",), allow=("0x146085",)), Treatment.ALLOW),
        (FlashPolicyCheck(reject=("0x146085",), allow=("0x85",)), Treatment.REJECT),
        (FlashPolicyCheck(read_back=(), allow=("0x85",)), Treatment.ALLOW),
        (FlashPolicyCheck(read_back=(), allow=("0xEF",)), Treatment.REJECT),
        (FlashPolicyCheck(read_back=("unknown",), allow=("all",)), Treatment.ALLOW),
        (FlashPolicyCheck(read_back=(), allow=()), Treatment.REJECT),
    ],
)
def test_the_nearest_entry_counts(policy: FlashPolicyCheck, treatment: Treatment) -> None:
    """A whole id before a vendor, a vendor before `all`; of two alike the stricter; what nobody names is rejected."""
    assert treatment_of(policy, PUYA) is treatment


def test_a_vendor_is_a_closed_list() -> None:
    """Every id has a name of the list, or `unknown`: a label never grows with what boards say."""
    names = {vendor_of(vendor | 0x1440_00) for vendor in range(256)}
    assert names == {*VENDORS.values(), UNKNOWN_VENDOR}
    assert len(set(VENDORS.values())) == len(VENDORS)


def test_who_must_be_read_back_needs_the_evidence_of_it(tmp_path: Path) -> None:
    """A PUYA has to show a filling that was read back; a Winbond does not, unless the recipe asks it of everybody."""
    recipe = small_recipe(tmp_path)
    puya, winbond = (FlashChip(jedec_id=each, size_bytes=1 << 20) for each in (PUYA, WINBOND))
    assert "filesystem_fill_hash" in required_measurements(recipe, puya)
    assert "filesystem_fill_hash" not in required_measurements(recipe, winbond)
    assert (fill_share(recipe, PUYA), fill_share(recipe, WINBOND), fill_share(recipe, None)) == (READ_BACK_SHARE, 0, 0)
    asks = small_recipe(tmp_path, "[checks.filesystem_fill]\nshare = 0.9\n")
    assert (fill_share(asks, PUYA), fill_share(asks, WINBOND)) == (0.9, 0.9)
    assert "filesystem_fill_hash" in required_measurements(asks, winbond)


def test_a_chip_that_the_recipe_rejects_is_a_fail_before_a_byte_is_written(tmp_path: Path) -> None:
    """FAIL flash_rejected names vendor and id; the flash is what it was."""
    recipe = small_recipe(tmp_path, '[checks.flash_policy]\nreject = ["0xef"]\n')
    board = ScriptedBoard()
    shown = visited(board, recipe)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, "flash_rejected")
    assert shown.job.particulars == "WINBOND 0x1440ef"
    assert bytes(board.flash) == UNTOUCHED
    assert not shown.end.flash_touched
