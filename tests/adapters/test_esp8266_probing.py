"""What only a qualification asks of a loader: the first SYNC at another rate, and the erase of a region."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from station.errors import LinkSilent
from tests.adapters.esp8266_rig import LINES, Bench, into_stub, nothing

KIB = 1024


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Give a bench without programmers."""
    with Bench() as made:
        yield made


@pytest.mark.parametrize("baud", [115_200, 230_400, 460_800, 921_600])
def test_the_rom_takes_any_first_rate_and_the_stub_starts_there(bench: Bench, baud: int) -> None:
    """After one reset the loader answers at this rate and at no other; stub and change of rate work from there."""
    board, line, _ = bench.board(kind=LINES)
    assert board.connect_at(baud)
    assert (line.baudrate, line.resets) == (baud, 1)
    assert {rate for rate, _ in line.written} == {baud}
    identity = board.read_identity()
    board.start_stub()
    board.set_baud(230_400)
    assert board.read_identity() == identity


def test_a_board_that_was_asked_at_one_rate_is_found_at_115200_again(bench: Bench) -> None:
    """The next `connect` resets it, whatever rate the ROM had taken."""
    board, line, _ = bench.board(kind=LINES)
    assert board.connect_at(921_600)
    board.connect(1)
    assert line.baudrate == 115_200
    assert board.answers_as() == "rom"


def test_where_nobody_answers_our_side_is_at_115200(bench: Bench) -> None:
    """False, and no loader: `connect` is needed."""
    board, line, _ = bench.board("no_answer", kind=LINES)
    assert not board.connect_at(460_800)
    assert line.baudrate == 115_200
    with pytest.raises(LinkSilent):
        board.connect(1)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_region_is_erased_and_nothing_beside_it(bench: Bench, legacy: bool) -> None:  # noqa: FBT001
    """A sector and a block become blank; the bytes before and after stay."""
    board, _, chip = bench.board()
    into_stub(board, legacy=legacy)
    content = bytes(range(256)) * (192 * 4)
    board.write(0, content, nothing)
    board.erase_region(4 * KIB, 4 * KIB)
    board.erase_region(64 * KIB, 64 * KIB)
    blank = {*range(4 * KIB, 8 * KIB), *range(64 * KIB, 128 * KIB)}
    expected = bytes(0xFF if at in blank else byte for at, byte in enumerate(content))
    assert bytes(chip.flash.data[: len(content)]) == expected
    assert board.blocks_repeated == 0


def test_an_erase_needs_the_stub(bench: Bench) -> None:
    """Asked of the ROM it is a mistake of ours, said at once."""
    board, _, _ = bench.board()
    board.connect(1)
    with pytest.raises(RuntimeError, match="stub"):
        board.erase_region(0, 4 * KIB)
