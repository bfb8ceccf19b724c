"""The faults that a virtual board's firmware plays: each does what its line in the list of outcomes says, every time."""

import asyncio

from tests.bench.firmware_rig import FRIENDLY, RAW, Session, board, files_in, on


def test_puya_that_loses_forgets_what_the_firmware_wrote() -> None:
    """On a forgetful flash a closed file is there until the next reset, the board's or MicroPython's, and gone afterwards."""

    async def scene(session: Session) -> None:
        for soft in (False, True, True):
            if soft:
                session.type(b"\x04")
                await session.until(RAW)
            else:
                await session.to_raw_repl()
            assert b"ENOENT" in (await session.run("open('f')"))[1]
            await session.run("with open('f', 'w') as f: f.write('data')")
            assert (await session.run("print(open('f').read())"))[0] == b"data\r\n"
        await session.to_raw_repl()
        assert b"ENOENT" in (await session.run("open('f')"))[1]

    on(board("puya_loses"), scene)


def test_fault_boot_loop_asks_for_reset_after_its_banner_every_time() -> None:
    """`boot_loop`: banner, watchdog reset, banner, watchdog reset; never a prompt."""

    async def scene(session: Session) -> None:
        for _ in range(3):
            session.boot()
            assert await session.until_reset() == "watchdog"
            assert b"MicroPython v1.27.0" in session.heard
        assert FRIENDLY not in session.heard

    on(board("boot_loop"), scene)


def test_fault_repl_silent_gives_no_prompt() -> None:
    """`repl_silent`: the banner, and no answer to anything."""

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(b"for more information.\r\n")
        session.type(b"\r\x03\r\x01\x04")
        await asyncio.sleep(0.2)
        assert session.heard == b""

    on(board("repl_silent"), scene)


def test_fault_repl_garbage_floods_and_is_stopped_by_the_power() -> None:
    """`repl_garbage`: a prompt, then NULs, terminal sequences and noise without end, until the power goes."""

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(FRIENDLY)
        session.type(b"\x01")
        for scrap in (b"\0" * 40, b"\x1b[2J", b"<script>"):
            await session.until(scrap)
        session.cut_power()
        session.heard.clear()
        await asyncio.sleep(0.1)
        assert session.heard == b""

    on(board("repl_garbage"), scene)


def test_fault_fake_pass_runs_nothing() -> None:
    """`fake_pass`: any code, pasted or not, prints PASS and is not executed."""
    chip = board("fake_pass")

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert await session.run("open('proof', 'w').close()\nprint('nonce')") == (b"PASS\r\n", b"")
        session.type(b"\x05A\x01")
        await session.until(b"\x80\x00\x01")
        session.type(b"print('nonce')\x04")
        assert await session.until(b"\x04>") == b"\x04PASS\r\n\x04\x04>"
        assert "proof" not in files_in(chip)

    on(chip, scene)


def test_fault_traceback_and_out_of_limits_act_in_machine_freq() -> None:
    """`traceback`: asking for the clock raises; `out_of_limits`: it is 52 MHz."""

    async def raising(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run("import machine\nmachine.freq()"))[1] == (
            b'Traceback (most recent call last):\r\n  File "<stdin>", line 2, in <module>\r\n'
            b"RuntimeError: clock unreadable\r\n"
        )

    async def wrong(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run("import machine\nprint(machine.freq())"))[0] == b"52000000\r\n"

    on(board("traceback"), raising)
    on(board("out_of_limits"), wrong)


def test_fault_fs_corrupt_never_makes_a_filesystem() -> None:
    """`fs_corrupt`: the looks-corrupt loop on a blank flash too, again after every reset."""

    async def scene(session: Session) -> None:
        for _ in range(2):
            session.boot()
            await session.until(b"looks corrupt.\r\n")
            await session.until(b"looks corrupt.\r\n")
        assert FRIENDLY not in session.heard

    on(board("fs_corrupt"), scene)


def test_fault_brownout_wifi_resets_when_the_radio_starts() -> None:
    """`brownout_wifi`: everything works until an interface is switched on; that call never comes back."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run("import network\nw = network.WLAN(network.STA_IF)\nprint(w.active())"))[
            0
        ] == b"False\r\n"
        session.type(b"w.active(True)\nprint('back')\x04")
        assert await session.until_reset() == "brownout"
        await asyncio.sleep(0.1)
        assert b"back" not in session.heard

    on(board("brownout_wifi"), scene)
