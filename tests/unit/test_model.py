"""The nouns: identities in every notation, and the JSON of a job that other tools read."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.model import (
    CommittedJob,
    FlashChip,
    JobState,
    Measurement,
    Outcome,
    Phase,
    PhaseOutcome,
    PhaseRecord,
    chip_id_from_mac,
    chip_id_from_unique_id,
    format_chip_id,
    format_mac,
    job_as_json,
)

JOB = CommittedJob(
    id="0193",
    slot="A3",
    mac="5c:cf:7f:dd:c1:42",
    chip_id=0xDDC142,
    state=JobState.CLOSED,
    outcome=Outcome.FAIL,
    reason="out_of_limits",
    detail="free_ram = 5 B, allowed 10000…120000",
    phases=(PhaseRecord(phase=Phase.CONNECT, outcome=PhaseOutcome.PASS, duration_s=1.23456),),
    measurements=(Measurement(name="free_ram", value=5, unit="B", low=10_000, high=120_000, within=False),),
)


def test_the_golden_vector_of_one_board_in_every_notation() -> None:
    """The board ending in dd:c1:42 is chip 0x00ddc142 in esptool's words and 42c1dd00 in MicroPython's."""
    assert chip_id_from_mac("5c:cf:7f:dd:c1:42") == 0x00DDC142
    assert chip_id_from_unique_id(bytes.fromhex("42c1dd00")) == 0x00DDC142
    assert format_chip_id(0x00DDC142) == "0x00ddc142"
    assert format_mac(bytes.fromhex("5ccf7fddc142")) == "5c:cf:7f:dd:c1:42"


@given(mac=st.binary(min_size=6, max_size=6))
def test_mac_and_unique_id_of_one_board_agree(mac: bytes) -> None:
    """For every factory MAC the chip ID from the MAC is that from the unique_id which its firmware gives."""
    m3, m4, m5 = mac[3:]
    assert chip_id_from_mac(format_mac(mac)) == chip_id_from_unique_id(bytes([m5, m4, m3, 0]))
    assert chip_id_from_mac(format_mac(mac)) == m3 << 16 | m4 << 8 | m5


@given(mac=st.binary(min_size=6, max_size=6))
def test_a_mac_survives_being_written_and_read(mac: bytes) -> None:
    """A formatted MAC is 17 lower-case characters from which the very bytes come back."""
    text = format_mac(mac)
    assert bytes.fromhex(text.replace(":", "")) == mac
    assert (len(text), text) == (17, text.lower())


@given(chip_id=st.integers(min_value=0, max_value=0xFFFFFF))
def test_a_chip_id_is_always_ten_characters(chip_id: int) -> None:
    """A chip ID is written with all its leading zeros, so that columns line up and text searches find it."""
    text = format_chip_id(chip_id)
    assert len(text) == 10
    assert int(text, 16) == chip_id


@given(selector=st.integers(min_value=0, max_value=255))
def test_the_selector_byte_of_an_old_sdk_is_no_part_of_the_chip_id(selector: int) -> None:
    """SDK 2.0 and 2.1 put the OTP's selector byte on top; the chip ID stays the same 24 bits."""
    assert chip_id_from_unique_id(bytes([0x42, 0xC1, 0xDD, selector])) == 0x00DDC142


@pytest.mark.parametrize("length", [0, 3, 5, 6])
def test_a_unique_id_of_another_length_is_refused(length: int) -> None:
    """What is not four bytes is no ESP8266's unique_id and gives no chip ID at all."""
    with pytest.raises(ValueError, match=f"{length} bytes, expected 4"):
        chip_id_from_unique_id(bytes(length))


def test_the_vendor_of_a_flash_chip_is_the_low_byte() -> None:
    """An id as esptool reads it has its maker in the low byte and is written with six digits."""
    chip = FlashChip(jedec_id=0x144085, size_bytes=1 << 20)
    assert (chip.vendor, str(chip)) == (0x85, "144085")
    assert str(FlashChip(jedec_id=0, size_bytes=None)) == "000000"


def test_a_job_as_json_keeps_its_contract() -> None:
    """The JSON of a job has the fields that other tools were promised, the chip ID formatted and durations in ms."""
    shown = job_as_json(JOB)
    assert json.loads(json.dumps(shown)) == {
        "job": "0193",
        "slot": "A3",
        "mac": "5c:cf:7f:dd:c1:42",
        "chip_id": "0x00ddc142",
        "state": "closed",
        "outcome": "FAIL",
        "reason": "out_of_limits",
        "detail": "free_ram = 5 B, allowed 10000…120000",
        "attempt": 1,
        "boot_evidence": None,
        "phases": [{"phase": "CONNECT", "outcome": "PASS", "duration_s": 1.235}],
        "measurements": [
            {"name": "free_ram", "value": 5, "unit": "B", "low": 10000, "high": 120000, "within": False},
        ],
        "values": {},
    }


def test_a_job_without_board_and_outcome_has_nulls_not_empty_texts() -> None:
    """What is not known yet is null in JSON: no chip ID of zero, no outcome that looks like one."""
    waiting = dataclasses.replace(JOB, mac=None, chip_id=None, state=JobState.PENDING, outcome=None, reason="")
    shown = job_as_json(waiting)
    assert [shown[name] for name in ("mac", "chip_id", "outcome", "reason")] == [None] * 4
    assert shown["state"] == "pending"


def test_the_first_line_of_a_detail_is_what_the_words_speak_of() -> None:
    """Notes about retries stand in the lines below the particulars and never get into what the person reads."""
    noted = dataclasses.replace(JOB, detail="free_ram\nLinkCorrupt at 460800 baud: retry at 230400\nmore")
    assert noted.particulars == "free_ram"
    assert dataclasses.replace(JOB, detail="").particulars == ""
