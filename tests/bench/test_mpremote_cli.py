"""The unmodified mpremote command line against a virtual board: MicroPython's own client is the judge."""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from station.bench.chip import Chip
from station.bench.firmware import MicroPythonHost
from station.bench.programmer import VirtualProgrammer
from tests.bench.bench_rig import RUNNING
from tests.bench.firmware_rig import board, files_in

MPREMOTE = Path(sys.executable).parent / "mpremote"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command gave back."""

    code: int
    out: str
    err: str


Client = Callable[..., Awaitable[Done]]


def with_board(chip: Chip, scene: Callable[[Client], Awaitable[None]], *, close_cuts_power: bool = True) -> None:
    """Play a scene with `mpremote connect TTY …` on this board; closing the tty is the power cycle unless said otherwise."""

    async def play() -> None:
        host = MicroPythonHost(pace=0)
        await host.start()
        programmer = VirtualProgrammer(
            chip=chip,
            boot_firmware=host.boot,
            kind=replace(RUNNING, close_cuts_power=close_cuts_power),
            pace=0,
            seed=1,
        )
        tty = programmer.plug()

        async def mpremote(*arguments: str) -> Done:
            process = await asyncio.create_subprocess_exec(
                MPREMOTE,
                *("connect", tty, *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
            finally:
                if process.returncode is None:  # it waits for ever for a byte that does not come
                    process.kill()
                    await process.wait()
            assert process.returncode is not None
            text = out.decode().replace("\r\n", "\n")  # it shows what the board sends
            return Done(code=process.returncode, out=text, err=err.decode())

        try:
            await scene(mpremote)
        finally:
            programmer.unplug()
            await host.close()

    asyncio.run(play())


def test_exec_and_run(tmp_path: Path) -> None:
    """`exec` prints what the code prints, an exception comes back as a traceback and status 1, `run` runs a file."""
    script = tmp_path / "hello.py"
    script.write_text("import os\nprint('hello from', os.uname().machine)\n" + "# padding\n" * 100)

    async def scene(mpremote: Client) -> None:
        assert await mpremote("exec", "print(6 * 7)") == Done(code=0, out="42\n", err="")
        failed = await mpremote("exec", "1/0")
        assert failed.code == 1
        assert "ZeroDivisionError: divide by zero" in failed.out + failed.err
        assert (await mpremote("run", str(script))).out == "hello from ESP module (1M) with ESP8266\n"

    with_board(board(), scene)


def test_fs_cp_ls_sha256sum_and_rm_of_a_binary_file(tmp_path: Path) -> None:
    """A binary file of 5 KB goes there and back over power cycles, is listed, hashed by the board, in flash, and removed."""
    chip = board()
    data = bytes(range(256)) + random.Random(7).randbytes(5000)
    source, copy = tmp_path / "source.bin", tmp_path / "copy.bin"
    source.write_bytes(data)

    async def scene(mpremote: Client) -> None:
        assert (await mpremote("fs", "cp", str(source), ":data.bin")).code == 0
        assert files_in(chip)["data.bin"] == data
        listing = await mpremote("fs", "ls")
        assert [line.split() for line in listing.out.splitlines()[1:]] == [["228", "boot.py"], ["5256", "data.bin"]]
        assert (await mpremote("fs", "cp", ":data.bin", str(copy))).code == 0
        assert copy.read_bytes() == data
        assert (await mpremote("fs", "rm", ":data.bin")).code == 0
        assert "data.bin" not in (await mpremote("fs", "ls")).out
        assert (await mpremote("fs", "rm", ":data.bin")).code != 0

    with_board(chip, scene)


def test_soft_reset_runs_boot_scripts_again_and_keeps_the_files(tmp_path: Path) -> None:
    """After `soft-reset` the interpreter is fresh, the files are there, and boot.py has run once more."""
    script = tmp_path / "boot.py"
    script.write_text("with open('runs', 'a') as f:\n    f.write('x')\n")

    async def scene(mpremote: Client) -> None:
        assert (await mpremote("fs", "cp", str(script), ":boot.py", "+", "exec", "marker = 1")).code == 0
        assert (await mpremote("soft-reset")).code == 0
        # "resume" leaves the interpreter as it is: no soft reset before the command.
        found = await mpremote("resume", "exec", "print('marker' in globals(), open('runs').read())")
        assert found.out == "False x\n"

    with_board(board(), scene, close_cuts_power=False)


@pytest.mark.parametrize("how", ["closed", "left open"])
def test_a_file_survives_the_power_cycle_only_when_it_was_closed(how: str) -> None:
    """The port's closing cuts the power: a file that was closed is read back, one that was not is empty."""
    code = "f = open('f', 'w'); f.write('data')" + ("; f.close()" if how == "closed" else "")

    async def scene(mpremote: Client) -> None:
        assert (await mpremote("exec", code)).code == 0
        assert (await mpremote("exec", "print(repr(open('f').read()))")).out == (
            "'data'\n" if how == "closed" else "''\n"
        )

    with_board(board(), scene)
