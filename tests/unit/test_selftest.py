"""The self-test's checks, run on a stand-in for the board's modules, and the verdict over their measurements."""

import ast
import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import upload
from station.errors import ReplGarbage
from station.model import Measurement
from station.reasons import CAUSES_BY_MEASUREMENT, Reason, cause_of
from station.recipe import FilesPlan, Recipe, trailer_problem
from station.selftest import (
    ANSWER_MAX_BYTES,
    FLASH_CODE,
    IDENTITY_CODE,
    RESTART_CODE,
    UNMOUNT_CODE,
    Check,
    between,
    board_that_answers,
    checks_for,
    exactly,
    file_content,
    filesystem_checks,
    first_failure,
    judge,
    parse,
    recorded,
    required_measurements,
)
from tests.unit.small_image import small_recipe
from tests.unit.standin_board import FLASH, IDENTITY, IMAGE, SEED, Board, recipe


@pytest.fixture
def board(monkeypatch, tmp_path):
    """A good board whose files are in a directory of their own."""
    monkeypatch.chdir(tmp_path)
    return Board(monkeypatch)


def check_named(name: str, of: Recipe | None = None) -> Check:
    """The check of that name."""
    of = of or recipe()
    return next(c for c in checks_for(of, IDENTITY, FLASH) + filesystem_checks(of, SEED) if c.name == name)


def test_a_good_board_passes_with_every_required_measurement(board):
    """Code, parsing and judgement together let a good board pass, with all required measurements taken."""
    measured = board.measure(recipe())
    assert judge(recipe(), measured.values()) is None
    assert set(required_measurements(recipe())) <= set(measured)
    assert measured["mac"].value == "5c:cf:7f:dd:c1:42"
    assert measured["chip_id"].value == "0x00ddc142"
    assert measured["flash_id"].value == "1440e0"
    assert (measured["cpu_frequency"].value, measured["cpu_frequency"].unit) == (80_000_000, "Hz")
    assert measured["machine"].value == "ESP module (1M) with ESP8266"
    assert measured["sdk_version"].value == "2.2.0-dev(9422289)"


def test_the_code_runs_where_modules_still_have_their_u(monkeypatch, tmp_path):
    """The same checks run on an interpreter as old as 1.8.7, with its module names and without newer functions."""
    monkeypatch.chdir(tmp_path)
    old = Board(monkeypatch, old=True)
    old.values["version"] = "v1.8.7-7-gb5a1a20a3 on 2017-01-09"
    of = recipe(firmware_version="1.8.7-7-gb5a1a20a3", image=b"\xe9" + bytes(100))
    measured = old.measure(of)
    assert judge(of, measured.values()) is None
    assert measured["firmware_intact"].value is None


def test_code_for_the_board_is_plain_old_python():
    """All code is printable ASCII, has no f-strings, and no tabs or carriage returns that a raw REPL would see."""
    for check in checks_for(recipe(), IDENTITY, FLASH) + filesystem_checks(recipe(), SEED):
        assert check.code.isascii()
        assert check.code.replace("\n", "").isprintable()
        assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(ast.parse(check.code)))
        assert len(check.code) < 1024, "an ESP8266 has some 30 KB for code and all"


def test_who_answers_is_asked_first():
    """The identity check comes before all others."""
    assert checks_for(recipe(), IDENTITY, FLASH)[0].name == "identity"


@pytest.mark.parametrize("before", [False, True])
def test_the_radio_is_started_and_left_as_it_was_found(board, before):
    """The Wi-Fi check switches the station interface on, and afterwards back to what it was."""
    board.radio.on = before
    check = check_named("wifi_start")
    (measured,) = parse(check, board.run(check))
    assert measured.within
    assert board.radio.history[0] is True
    assert board.radio.on is before


def test_a_radio_that_does_not_start_is_out_of_limits(board):
    """active(True) that has no effect is a failed measurement."""
    board.radio.broken = True
    check = check_named("wifi_start")
    failure = first_failure(parse(check, board.run(check)))
    assert failure is not None
    assert (failure.reason, failure.detail) == (Reason.OUT_OF_LIMITS, "wifi_start = no, allowed yes")


@pytest.mark.parametrize(
    ("values", "reason", "detail"),
    [
        ({"freq": 52_000_000}, Reason.OUT_OF_LIMITS, "cpu_frequency = 52000000 Hz, allowed 80000000…160000000"),
        ({"mem_free": 1}, Reason.OUT_OF_LIMITS, "free_ram = 1 B, allowed 10000…120000"),
        ({"flash_size": 1 << 19}, Reason.OUT_OF_LIMITS, "flash_size = 524288 B, allowed 1048576"),
        ({"check_fw": False}, Reason.OUT_OF_LIMITS, "firmware_intact = no, allowed yes"),
        ({"version": "v1.26.0 on 2025-08-09"}, Reason.OUT_OF_LIMITS, "firmware_version = 1.26.0, allowed 1.27.0"),
        ({"flash_id": 0x1640EF}, Reason.IDENTITY_MISMATCH, "flash_id = 1640ef, flashed was 1440e0"),
        (
            {"unique_id": bytes.fromhex("43c1dd00")},
            Reason.IDENTITY_MISMATCH,
            "chip_id = 0x00ddc143, flashed was 0x00ddc142",
        ),
    ],
)
def test_a_value_outside_its_limits_is_told_with_the_limits(board, values, reason, detail):
    """Each deviation fails with its reason, and names value and limits."""
    board.values |= values
    failure = judge(recipe(), board.measure(recipe()).values())
    assert failure is not None
    assert (failure.reason, failure.detail) == (reason, detail)


def test_another_boards_values_are_not_held_against_the_flashed_one(board):
    """When another board answers, that is the finding, whatever else is wrong with it."""
    board.radio.mac = bytes.fromhex("5ccf7f000001")
    board.values |= {"freq": 1, "check_fw": False}
    failure = judge(recipe(), reversed(board.measure(recipe()).values()))
    assert failure is not None
    assert failure.reason is Reason.IDENTITY_MISMATCH
    assert failure.detail == "mac = 5c:cf:7f:00:00:01, flashed was 5c:cf:7f:dd:c1:42"


def test_the_selector_byte_of_an_old_sdk_is_not_part_of_the_chip_id(board):
    """SDKs up to 2.1.0 may put a byte above the 24 bits of unique_id(); it does not count."""
    board.values["unique_id"] = bytes.fromhex("42c1dd02")
    assert board.measure(recipe())["chip_id"].within


def test_the_firmware_version_is_only_recorded_when_the_recipe_names_none(board):
    """Without a version in recipe and image whatever the board says is recorded."""
    of = recipe(firmware_version="")
    measured = board.measure(of)["firmware_version"]
    assert (measured.value, measured.low, measured.within) == ("1.27.0", None, True)


def test_an_image_without_trailer_cannot_fail_the_boards_own_check(board):
    """esp.check_fw() needs the trailer, so without one its answer is recorded and not judged."""
    plain = b"\xe9" + bytes(100)
    assert trailer_problem(plain)
    assert not trailer_problem(IMAGE)
    board.values["check_fw"] = False
    assert board.measure(recipe(image=plain))["firmware_intact"].within
    assert not board.measure(recipe())["firmware_intact"].within


def test_the_file_is_what_the_station_expects_and_is_gone_afterwards(board, tmp_path):
    """The board writes the content that the seed determines, flushes it, reads it back and deletes it."""
    write, read = filesystem_checks(recipe(), SEED)
    (written,) = parse(write, board.run(write))
    assert written.within
    assert (tmp_path / "selftest.tmp").read_bytes() == file_content(SEED)
    assert board.synced == 1
    (found,) = parse(read, board.run(read))
    assert found.within
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped", "empty"])
def test_a_file_that_did_not_survive_is_lost_data(board, tmp_path, damage):
    """A file that is gone, cut, empty or changed after the reset means that the flash loses data."""
    write, read = filesystem_checks(recipe(), SEED)
    board.run(write)
    file = tmp_path / "selftest.tmp"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    {
        "gone": file.unlink,
        "cut": lambda: file.write_bytes(file_content(SEED)[:-1]),
        "flipped": lambda: file.write_bytes(content),
        "empty": lambda: file.write_bytes(b""),
    }[damage]()
    failure = first_failure(parse(read, board.run(read)))
    assert failure is not None
    assert failure.reason is Reason.FILESYSTEM_LOST_DATA


def test_a_file_of_another_run_is_not_accepted(board):
    """Two runs write different files, so that a file left from an earlier run proves nothing."""
    write, _ = filesystem_checks(recipe(), SEED + 65537)
    _, read = filesystem_checks(recipe(), SEED)
    board.run(write)
    (found,) = parse(read, board.run(read))
    assert not found.within


def test_a_recipe_without_filesystem_asks_for_none(board):
    """The 512 KiB variant has no filesystem: no check of it, and none required."""
    of = recipe(has_filesystem=False)
    assert filesystem_checks(of, SEED) == ()
    assert not any("filesystem" in name for name in required_measurements(of))
    assert judge(of, board.measure(of).values()) is None


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("cpu_frequency", b""),
        ("cpu_frequency", b"\r\n\r\n"),
        ("cpu_frequency", b"80000000.5"),
        ("cpu_frequency", b"true"),
        ("cpu_frequency", b'"80000000"'),
        ("cpu_frequency", b"-1"),
        ("cpu_frequency", b"9" * 3000),
        ("cpu_frequency", b"NaN"),
        ("cpu_frequency", b"[" * 4000),
        ("cpu_frequency", b"80000000 80000000"),
        ("cpu_frequency", b"80000000".rjust(ANSWER_MAX_BYTES + 1, b"\n")),
        ("identity", b'["5ccf7fddc142"]'),
        ("identity", b'["5CCF7FDDC142","42c1dd00"]'),
        ("identity", b'["5ccf7fddc142","42c1dd00","x"]'),
        ("firmware", b'["v1.27.0 on 2025-12-09\\u001b[2J","x","y"]'),
        ("firmware", b'["' + b"v" * 500 + b'","x","y"]'),
        ("firmware", b'["\xff","x","y"]'),
        ("firmware", b'["\\ud800","x","y"]'),
        ("firmware_intact", b"1"),
        ("wifi_start", b"null"),
        ("filesystem_write", b"null"),
        ("filesystem_read", b'"00"'),
        ("flash", b"{}"),
    ],
)
def test_an_answer_of_the_wrong_form_is_garbage(name, payload):
    """What is not exactly the value that the check prints is garbage, and is never judged."""
    with pytest.raises(ReplGarbage, match=name):
        parse(check_named(name), payload)


@given(st.binary(max_size=200), st.sampled_from(["identity", "flash", "firmware", "firmware_intact", "wifi_start"]))
def test_no_bytes_break_parsing(payload, name):
    """Whatever bytes a check prints, they become measurements or garbage."""
    with contextlib.suppress(ReplGarbage):
        for measured in parse(check_named(name), payload):
            assert isinstance(measured, Measurement)


def test_chatter_before_the_value_is_skipped():
    """What the SDK prints before the value, as esp.check_fw() does, is not taken for it."""
    (measured,) = parse(check_named("firmware_intact"), b"size: 1\r\nmd5: 00\r\n\r\ntrue\r\n")
    assert measured.value is True


_required = required_measurements(recipe())
_measurements = st.lists(
    st.builds(
        Measurement,
        name=st.sampled_from([*_required, "machine", "sdk_version"]),
        value=st.integers() | st.none() | st.booleans() | st.text(max_size=5),
        low=st.none() | st.integers(),
        high=st.none() | st.integers(),
        within=st.booleans() | st.just(value=True) | st.just(value=True) | st.just(value=True),
    ),
    max_size=14,
)


@given(_measurements, st.sets(st.sampled_from(_required)), st.booleans())
def test_pass_needs_every_required_measurement_within(extra, left_out, has_filesystem):
    """judge() says pass if and only if all required measurements are there and nothing is outside its limits."""
    of = recipe(has_filesystem=has_filesystem)
    good = [Measurement(name=name, value=1) for name in _required if name not in left_out]
    for taken in (extra, [*extra, *good], [*good, *extra], good):
        needed = set(required_measurements(of))
        whole = needed <= {measurement.name for measurement in taken} and all(m.within for m in taken)
        failure = judge(of, taken)
        assert (failure is None) is whole
        if failure is not None:
            assert failure.reason in {
                Reason.IDENTITY_MISMATCH,
                Reason.FLASH_REJECTED,
                Reason.ACCESS_POINT_OPEN,
                Reason.FILESYSTEM_LOST_DATA,
                Reason.OUT_OF_LIMITS,
                Reason.EVIDENCE_MISSING,
            }


def test_what_a_pass_requires_is_exactly_this():
    """The list of required measurements, written by hand."""
    always = {"mac", "chip_id", "flash_id", "flash_policy", "firmware_version", "machine", "cpu_frequency"}
    always |= {"flash_size", "firmware_intact", "free_ram", "wifi_start", "access_point_off"}
    assert set(required_measurements(recipe(has_filesystem=False))) == always
    assert set(required_measurements(recipe())) == always | {"filesystem_written", "filesystem_hash"}


def test_no_measurements_at_all_are_missing_evidence():
    """Zero steps are no pass: everything that is missing is named."""
    failure = judge(recipe(), ())
    assert failure is not None
    assert failure.reason is Reason.EVIDENCE_MISSING
    assert failure.detail == ", ".join(required_measurements(recipe()))


@given(st.integers(), st.integers(), st.integers())
def test_limits_are_inclusive(value, low, high):
    """A value on its limit is within."""
    assert between("x", value, (low, high)).within is (low <= value <= high)


def test_nothing_equals_an_unknown_expectation():
    """Without something to compare with, a comparison never holds; and True is not 1."""
    assert not exactly("x", None, None).within
    assert not exactly("x", True, 1).within
    assert exactly("x", "a", "a").within
    assert recorded("x", None).within


# -- a board that was not started by us --------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_a_running_firmware_tells_who_it_is(monkeypatch, *, old):
    """The same two questions as in the self-test name the board; OTP words are the loader's to tell."""
    board = Board(monkeypatch, old=old)
    identity, flash = board_that_answers(board.execute(IDENTITY_CODE), board.execute(FLASH_CODE))
    assert (identity.mac, identity.chip_id, identity.otp_words) == (IDENTITY.mac, IDENTITY.chip_id, None)
    assert (flash.jedec_id, flash.size_bytes) == (FLASH.jedec_id, FLASH.size_bytes)


def test_the_selector_byte_of_an_old_sdk_names_the_same_board(board):
    """A byte above the 24 bits is no part of the chip ID here either."""
    board.values["unique_id"] = bytes.fromhex("42c1dd02")
    identity, _ = board_that_answers(board.execute(IDENTITY_CODE), board.execute(FLASH_CODE))
    assert identity.chip_id == IDENTITY.chip_id


@pytest.mark.parametrize(
    ("identity", "flash"),
    [
        (b"", b"[1, 2]"),
        (b'["5ccf7fddc142"]', b"[1, 2]"),
        (b'["5CCF7FDDC142","42c1dd00"]', b"[1, 2]"),
        (b'["5ccf7fddc142","42c1dd00"]', b"[1]"),
        (b'["5ccf7fddc142","42c1dd00"]', b"[1, -2]"),
        (b'["5ccf7fddc142","42c1dd00"]', b"[1, 2]".rjust(ANSWER_MAX_BYTES + 1)),
    ],
)
def test_half_a_name_is_no_name(identity, flash):
    """What is not exactly what the code prints names nobody."""
    with pytest.raises(ReplGarbage):
        board_that_answers(identity, flash)


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_no_bytes_break_naming(identity, flash):
    """Whatever is printed, it is a name or garbage."""
    with contextlib.suppress(ReplGarbage):
        named, _ = board_that_answers(identity, flash)
        assert len(named.mac) == 17


# -- what is run between the two checks of the filesystem --------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_the_filesystem_is_unmounted_and_nothing_printed(monkeypatch, *, old, fails):
    """Everything is on flash after it; a filesystem that is not mounted is no error."""
    board = Board(monkeypatch, old=old)
    unmounted = []

    def umount(path):
        unmounted.append(path)
        if fails:
            raise OSError(22)

    (board.modules.get("os") or board.modules["uos"]).umount = umount
    assert board.execute(UNMOUNT_CODE) == b""
    assert unmounted == ["/"]


def test_the_restart_is_a_reset_of_the_machine(board):
    """Not a soft reset: the chip starts anew from its flash."""
    resets = []
    board.modules["machine"].reset = lambda: resets.append(True)
    board.execute(RESTART_CODE)
    assert resets == [True]


@pytest.mark.parametrize("code", [UNMOUNT_CODE, RESTART_CODE, IDENTITY_CODE, FLASH_CODE])
def test_code_outside_the_checks_is_plain_old_python_too(code):
    """Printable ASCII, and no f-strings."""
    assert code.isascii()
    assert code.replace("\n", "").isprintable()
    assert not any(isinstance(node, ast.JoinedStr) for node in ast.walk(ast.parse(code)))


# -- what the document says --------------------------------------------------------------------------------------------


def test_every_measurement_that_can_be_required_is_documented(tmp_path):
    """docs/selftest.md names each measurement of a recipe that asks for everything, and none that does not exist."""
    page = (Path(__file__).parents[2] / "docs" / "selftest.md").read_text("utf-8")
    tables = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {name for cell in tables for name in re.findall(r"`([a-z0-9_]+)`", cell)}
    more = (
        '[checks.frequency]\n[checks.filesystem_fill]\n[checks.wifi_scan]\nssid = "x"\n[checks.gpio]\n[checks.boot]\n'
        '[network]\nssid = "x"\njoin_within_s = 1.0\nwebrepl_secret = "web"\n'
    )
    of = small_recipe(tmp_path, more)
    of_files = upload.required_measurements(FilesPlan(delete=("boot.py",), hold=("main.py",)))
    assert documented == set(required_measurements(of)) | {"frequency_restored", *of_files}


def test_every_value_that_can_be_out_of_limits_has_a_likely_cause_of_its_own(tmp_path):
    """The technician reads more than that a value is outside its limits; and no cause is told of what cannot be."""
    page = (Path(__file__).parents[2] / "docs" / "selftest.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    names = {name for row in rows if "out_of_limits" in row[4] for name in re.findall(r"`([a-z0-9_]+)`", row[1])}
    failures = {name: first_failure([Measurement(name=name, value=0, within=False)]) for name in names}
    judged = {name for name, found in failures.items() if found and found.reason is Reason.OUT_OF_LIMITS}
    assert judged == set(CAUSES_BY_MEASUREMENT)
    assert {cause_of(Reason.OUT_OF_LIMITS, f"{name} = 0, allowed 1") for name in CAUSES_BY_MEASUREMENT} == set(
        CAUSES_BY_MEASUREMENT.values()
    )
    assert cause_of(Reason.OUT_OF_LIMITS, "mine.x = 0, allowed 1") == cause_of(Reason.OUT_OF_LIMITS)
