"""The raw REPL and every check of the self-test, on a real MicroPython over a real tty: the virtual bench's boards."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from station.adapters.repl import OUTPUT_MAX_BYTES, RawRepl
from station.bench.bench import BenchLine, BenchOpener, VirtualBench
from station.bench.chip import Chip, make_chip
from station.bench.faults import parse_fault
from station.bench.image import Variant, make_image
from station.errors import (
    BoardRestartedInTest,
    BootLooping,
    CheckRaised,
    FilesystemCorrupt,
    NothingBoots,
    ReplGarbage,
    ReplSilent,
)
from station.model import BootInto, FlashChip, Identity, Measurement, chip_id_from_mac, format_mac
from station.network import proof_checks, set_up_checks
from station.ports import Stop
from station.reasons import Reason
from station.recipe import Recipe, load_recipe
from station.selftest import checks_for, filesystem_checks, judge, parse

MAC = bytes.fromhex("5ccf7fddc142")
IDENTITY = Identity(mac=format_mac(MAC), chip_id=chip_id_from_mac(format_mac(MAC)), otp_words=(0, 0, 0, 0))


@contextmanager
def board(
    *faults: str, variant: Variant = "1M", wait_s: float = 60.0
) -> Iterator[tuple[RawRepl, BenchLine, Chip, str]]:
    """A flashed board that was reset into its firmware, at the raw REPL's prompt; its line, its chip, its banner."""
    image = make_image(variant=variant)
    chip = make_chip(mac=MAC, faults=tuple(parse_fault(fault) for fault in faults), image=image)
    with VirtualBench(slots=1, pace=0, seed=1) as bench:
        bench.plug("A1", chip)
        stop = Stop()
        line = BenchOpener(bench).open(bench.attached()[0], 115200, stop)
        try:
            line.reset_board(BootInto.FIRMWARE)
            repl = RawRepl(line, stop)
            yield repl, line, chip, repl.await_prompt(wait_s)
        finally:
            line.close()


def recipe_for(folder: Path, variant: Variant = "1M") -> Recipe:
    """The recipe of what the boards above hold."""
    image = make_image(variant=variant)
    (folder / "image.bin").write_bytes(image)
    (folder / "recipe.toml").write_text(
        f'[firmware]\npath = "image.bin"\nsha256 = "{hashlib.sha256(image).hexdigest()}"\n', encoding="utf-8"
    )
    return load_recipe(folder / "recipe.toml")


def self_test(repl: RawRepl, line: BenchLine, chip: Chip, recipe: Recipe) -> list[Measurement]:
    """All checks, with a reset by the lines between the two of the filesystem, and before what proves the network."""
    taken: list[Measurement] = []
    flash = FlashChip(jedec_id=chip.flash.jedec_id, size_bytes=1 << 20)
    for check in (*checks_for(recipe, IDENTITY, flash), *set_up_checks(recipe.network, {})):
        taken += parse(check, repl.run(check.code, 60))
    for check in filesystem_checks(recipe, seed=20251209):
        taken += parse(check, repl.run(check.code, 60))
        line.reset_board(BootInto.FIRMWARE)
        repl.await_prompt(60)
    for check in proof_checks(recipe.network, {}):
        taken += parse(check, repl.run(check.code, 60))
    return taken


def test_a_good_board_passes_its_self_test(tmp_path):
    """Every check runs on a real interpreter, and their measurements are a pass; the file is gone afterwards."""
    with board() as (repl, line, chip, banner):
        assert banner == "MicroPython v1.27.0 on 2025-12-09; ESP module (1M) with ESP8266"
        recipe = recipe_for(tmp_path)
        taken = self_test(repl, line, chip, recipe)
        assert judge(recipe, taken) is None, taken
        assert repl.run("import os\nprint(os.listdir())", 60) == b"['boot.py']\r\n"


def test_a_board_without_a_filesystem_passes_without_the_checks_of_one(tmp_path):
    """The 512 KiB variant has no filesystem, and its self-test asks for none."""
    recipe = recipe_for(tmp_path, "512K")
    assert not recipe.has_filesystem
    with board(variant="512K") as (repl, line, chip, _):
        taken = {measurement.name: measurement for measurement in self_test(repl, line, chip, recipe)}
    assert taken["machine"].value == "ESP module (512K) with ESP8266"
    assert taken["firmware_version"].within


def test_code_of_any_length_and_what_it_prints_go_over_the_wire_whole():
    """Long code, long output, exceptions, code that does not compile and a soft reset leave the conversation in step."""
    with board() as (repl, _, _, _):
        assert repl.run("x='" + "y" * 9000 + "'\nprint(len(x))", 60) == b"9000\r\n"
        assert repl.run(f"print('z'*{OUTPUT_MAX_BYTES - 2})", 60) == b"z" * (OUTPUT_MAX_BYTES - 2) + b"\r\n"
        with pytest.raises(CheckRaised, match="ImportError: no module named 'nosuch'"):
            repl.run("print('before')\nimport nosuch", 60)
        with pytest.raises(CheckRaised, match="SyntaxError: invalid syntax"):
            repl.run("y = = 3\n" + "z = 1\n" * 100, 60)
        repl.soft_reset(60)
        assert repl.run("print(6*7)", 60) == b"42\r\n"
        with pytest.raises(ReplGarbage):
            repl.run("for i in range(100000):\n print('more')", 60)


def test_leaving_gives_the_friendly_prompt_back():
    """After leave() the board shows its banner and the prompt that a user expects."""
    with board() as (repl, line, _, _):
        repl.leave()
        said = b""
        while not said.endswith(b">>> ") and (more := line.read_some(10)):
            said += more
        assert b"MicroPython v1.27.0" in said
        assert said.endswith(b">>> ")


@pytest.mark.parametrize(
    ("fault", "error", "wait_s"),
    [
        ("boot_loop", BootLooping, 60),
        ("fs_corrupt", FilesystemCorrupt, 60),
        ("repl_garbage", ReplGarbage, 60),
        ("fake_pass", ReplGarbage, 60),
        ("repl_silent", ReplSilent, 2),
        ("no_boot", NothingBoots, 2),
        ("needs_dout", NothingBoots, 2),  # its image says qio
        ("no_answer", NothingBoots, 1),
    ],
)
def test_each_way_of_not_coming_up_is_told_apart(fault, error, wait_s):
    """A board that does not reach a usable prompt is told by what it does instead."""
    with pytest.raises(error), board(fault, wait_s=wait_s):
        pass


@pytest.mark.parametrize(("fault", "error"), [("traceback", CheckRaised), ("brownout_wifi", BoardRestartedInTest)])
def test_each_way_of_failing_in_a_check_is_told_apart(tmp_path, fault, error):
    """A check that raises on the board, and a board that restarts when its radio starts, are told by what they do."""
    with board(fault) as (repl, line, chip, _), pytest.raises(error):
        self_test(repl, line, chip, recipe_for(tmp_path))


@pytest.mark.parametrize(
    ("fault", "reason"), [("out_of_limits", Reason.OUT_OF_LIMITS), ("puya_loses", Reason.FILESYSTEM_LOST_DATA)]
)
def test_each_way_of_measuring_wrong_is_judged(tmp_path, fault, reason):
    """A value outside its limits, and a file that is gone after the reset, are findings of the judgement."""
    recipe = recipe_for(tmp_path)
    with board(fault) as (repl, line, chip, _):
        finding = judge(recipe, self_test(repl, line, chip, recipe))
    assert finding is not None
    assert finding.reason is reason
