"""The firmware of a virtual board, driven at its UART: the real interpreter and what a chip adds to it."""

import asyncio

from station.bench.chip import ResetCause
from station.bench.image import make_image
from tests.bench.firmware_rig import FILESYSTEM_START, FRIENDLY, MAC, RAW, Session, board, files_in, on


def test_first_boot_makes_the_filesystem_and_says_what_micropython_says() -> None:
    """Blank filesystem sectors: set-up, boot.py, banner and prompt; the second boot finds them and does nothing."""
    chip = board()

    async def scene(session: Session) -> None:
        session.boot()
        banner = (
            b"\r\nMicroPython v1.27.0 on 2025-12-09; ESP module (1M) with ESP8266\r\n"
            b'Type "help()" for more information.\r\n'
        )
        assert await session.until(FRIENDLY) == b"Performing initial setup\r\n" + banner + FRIENDLY
        assert b"gc.collect()" in files_in(chip)["boot.py"]
        session.boot()
        assert await session.until(FRIENDLY) == banner + FRIENDLY

    on(chip, scene)


def test_the_image_in_flash_decides_what_the_board_says_it_is() -> None:
    """Version and variant in the banner, os.uname() and sys.implementation are those of the flashed image."""

    async def scene(session: Session) -> None:
        session.boot()
        assert b"MicroPython v1.26.1 on 2025-09-11; ESP module (1M) with ESP8266\r\n" in await session.until(FRIENDLY)
        uname = await session.line(b"import os, sys; print(os.uname(), sys.platform)")
        assert uname == (
            b"uname(sysname='esp8266', nodename='esp8266', release='2.2.0-dev(9422289)', "
            b"version='v1.26.1 on 2025-09-11', machine='ESP module (1M) with ESP8266') esp8266\r\n"
        )
        assert (await session.line(b"sys.implementation.version")).startswith(b"(1, 26, 1")

    on(board(image=make_image(version="1.26.1", built="2025-09-11")), scene)


def test_identity_is_that_of_the_chip() -> None:
    """Unique id little-endian, station MAC as in OTP, another one for the access point, flash id as esptool reads it."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        printed, _ = await session.run(
            "import machine, network, esp, binascii\n"
            "print(binascii.hexlify(machine.unique_id()), machine.freq(), hex(esp.flash_id()), esp.flash_size())\n"
            "for i in (network.STA_IF, network.AP_IF):\n"
            " mac = network.WLAN(i).config('mac')\n print(type(mac), mac.hex())"
        )
        lines = printed.decode().split("\r\n")
        assert lines[0] == "b'42c1dd00' 80000000 0x1440ef 1048576"
        assert lines[1] == f"<class 'bytes'> {MAC.hex()}"
        assert lines[2] == "<class 'bytes'> 5ecf7fddc142"

    on(board(), scene)


def test_check_fw_reads_the_flash() -> None:
    """`esp.check_fw()` holds for the flashed image and no longer for one changed bit in the flash, which still boots."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run("import esp\nprint(esp.check_fw())"))[0].endswith(b"True\r\n")
        chip.flash.data[0x20000] ^= 1
        assert (await session.run("print(esp.check_fw())"))[0].endswith(b"False\r\n")

    on(chip, scene)


def test_the_repl_speaks_as_on_a_chip() -> None:
    """Echo, CR LF after every line printed, raw mode, tracebacks, paste mode and Ctrl-B, byte for byte."""

    async def scene(session: Session) -> None:
        session.boot()
        await session.until(FRIENDLY)
        session.type(b"print(1, 'a\\nb')\r")
        assert await session.until(FRIENDLY) == b"print(1, 'a\\nb')\r\n1 a\r\nb\r\n>>> "
        session.type(b"\x01")
        assert await session.until(RAW) == b"\r\nraw REPL; CTRL-B to exit\r\n>"
        session.type(b"print(1)\n1/0\x04")
        assert await session.until(b"\x04>") == (
            b'OK1\r\n\x04Traceback (most recent call last):\r\n  File "<stdin>", line 2, in <module>\r\n'
            b"ZeroDivisionError: divide by zero\r\n\x04>"
        )
        session.type(b"\x02")
        assert (await session.until(FRIENDLY)).startswith(b"\r\nMicroPython v1.27.0 on 2025-12-09; ESP module (1M)")
        session.type(b"\x05x = 5\rprint(x)\x04")
        assert (await session.until(b"5\r\n>>> ")).startswith(
            b"\r\npaste mode; Ctrl-C to cancel, Ctrl-D to finish\r\n=== "
        )

    on(board(), scene)


def test_raw_paste_has_a_window_of_128_bytes() -> None:
    """Raw paste is offered with flow control, runs what was pasted, and survives Ctrl-C, nothing and a wrong letter."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        session.type(b"\x05A\x01")
        assert await session.until(b"\x01\x80\x00\x01") == b"R\x01\x80\x00\x01"
        session.type(b"print(len('" + b"y" * 300 + b"'))")
        assert await session.until(b"\x01\x01") == b"\x01\x01"
        session.type(b"\x04")
        assert await session.until(b"\x04>") == b"\x04300\r\n\x04\x04>"
        for pasted, answer in ((b"1+\x03", b"\x04\x04KeyboardInterrupt: \r\n\x04>"), (b"\x04", b"\x04\x04\x04>")):
            session.type(b"\x05A\x01")
            await session.until(b"\x80\x00\x01")
            session.type(pasted)
            assert await session.until(answer) == answer
        session.type(b"\x05B\x01")
        assert await session.until(b">") == b"R\x00>"

    on(board(), scene)


def test_closed_files_survive_a_reset_and_open_ones_do_not() -> None:
    """Of two files written, the closed one is read back after a reset and by a fresh LittleFS; the other is empty."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        _, error = await session.run(
            "f = open('kept', 'wb')\nf.write(b'data' * 1000)\nf.close()\ng = open('lost', 'w')\ng.write('data' * 1000)"
        )
        assert error == b""
        assert files_in(chip)["kept"] == b"data" * 1000
        assert files_in(chip)["lost"] == b""
        await session.to_raw_repl()
        printed, _ = await session.run("import os\nprint(open('kept').read() == 'data' * 1000, os.stat('lost')[6])")
        assert printed == b"True 0\r\n"

    on(chip, scene)


def test_flushed_files_survive_a_reset_and_a_soft_reset_closes_the_others() -> None:
    """`flush()` is enough for a reset; a soft reset sweeps open files, which writes them."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        await session.run("f = open('flushed', 'w')\nf.write('abc')\nf.flush()\ng = open('swept', 'w')\ng.write('xyz')")
        assert files_in(chip)["flushed"] == b"abc"
        assert files_in(chip)["swept"] == b""
        session.type(b"\x04")
        assert await session.until(RAW) == b"OK\r\nMPY: soft reboot\r\nraw REPL; CTRL-B to exit\r\n>"
        assert files_in(chip)["swept"] == b"xyz"

    on(chip, scene)


def test_unmounting_drops_what_was_not_written_and_a_soft_reset_mounts_afresh() -> None:
    """`os.umount('/')` leaves no filesystem and forgets open files; after Ctrl-D the flash is what is read."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        code = "f = open('closed', 'w'); f.write('abc'); f.close()\ng = open('open', 'w'); g.write('xyz')"
        assert (await session.run(f"{code}\nimport os\nos.umount('/')\nprint(os.listdir('/'))")) == (b"[]\r\n", b"")
        assert b"ENODEV" in (await session.run("open('closed')"))[1]
        assert b"ENODEV" in (await session.run("g.flush()"))[1]
        session.type(b"\x04")
        await session.until(RAW)
        assert await session.run("print(open('closed').read(), len(open('open').read()))") == (b"abc 0\r\n", b"")
        assert await session.run("import os, vfs, flashbdev; os.umount('/')") == (b"", b"")
        assert (await session.run("vfs.mount(vfs.VfsLfs2(flashbdev.bdev), '/'); print(os.listdir())"))[1] == b""

    on(chip, scene)


def test_files_behave_like_files() -> None:
    """Text, bytes, lines, seeking, directories, with-statements and errors are those of MicroPython."""
    code = """
import os
with open('a.txt', 'w') as f:
    print(f.write('première\\nligne\\n'))
with open('a.txt') as f:
    print(f.readline(), list(f), f.read())
with open('a.txt', 'rb+') as f:
    f.seek(4); print(f.read(5), f.tell()); f.write(b'X'); f.seek(-2, 2); print(f.read())
os.mkdir('d'); os.chdir('d'); open('b', 'w').close(); print(os.getcwd(), os.listdir(), sorted(os.listdir('/')))
os.chdir('/'); os.rename('d/b', 'c'); os.rmdir('d'); os.remove('c'); print([e for e in os.ilistdir()])
buffer = bytearray(4); print(open('a.txt', 'rb').readinto(buffer), buffer)
try:
    open('none')
except OSError as e:
    print(e)
"""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        printed, error = await session.run(code)
        assert error == b""
        assert printed.decode().split("\r\n") == [
            "15",
            "premi\xe8re",
            " ['ligne\\n'] ",
            "b'i\\xc3\\xa8re' 9",
            "b'e\\n'",
            "/d ['b'] ['a.txt', 'boot.py', 'd']",
            "[('a.txt', 32768, 0, 16), ('boot.py', 32768, 0, 228)]",
            "4 bytearray(b'prem')",
            "[Errno 2] ENOENT",
            "",
        ]

    on(board(), scene)


def test_boot_and_main_run_at_boot_and_modules_come_from_the_flash() -> None:
    """boot.py and main.py run after a reset and a soft reset, main.py not in raw mode; import finds files in the flash."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        files = {"boot.py": "print('boot')", "main.py": "import lot; print(lot.number)", "lot.py": "number = 7"}
        for name, text in files.items():
            await session.run(f"with open({name!r}, 'w') as f: f.write({text!r})")
        session.type(b"\x04")
        assert await session.until(RAW) == b"OK\r\nMPY: soft reboot\r\nboot\r\nraw REPL; CTRL-B to exit\r\n>"
        session.type(b"\x02")
        await session.until(FRIENDLY)
        session.type(b"\x04")
        assert (await session.until(FRIENDLY)).startswith(b"\r\nMPY: soft reboot\r\nboot\r\n7\r\nMicroPython")
        session.boot()
        assert (await session.until(FRIENDLY)).startswith(b"boot\r\n7\r\n\r\nMicroPython")

    on(board(), scene)


def test_a_script_that_fails_leaves_the_prompt() -> None:
    """An exception in boot.py prints the chip's traceback, and the REPL comes up all the same."""

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        await session.run("with open('boot.py', 'w') as f: f.write('x = 1\\n1/0')")
        session.boot()
        said = await session.until(FRIENDLY)
        assert said.startswith(
            b'Traceback (most recent call last):\r\n  File "boot.py", line 2, in <module>\r\n'
            b"ZeroDivisionError: divide by zero\r\n"
        )

    on(board(), scene)


def test_a_dirty_flash_is_refused_for_ever_until_it_is_formatted() -> None:
    """Neither blank nor LittleFS: the message of the real firmware again and again; Ctrl-C ends it, mkfs mends it."""
    chip = board()
    chip.flash.data[FILESYSTEM_START : FILESYSTEM_START + 64] = bytes(64)
    complaint = (
        b"The filesystem starting at sector 153 with size 98 sectors looks corrupt.\r\n"
        b"You may want to make a flash snapshot and try to recover it. Otherwise,\r\n"
        b"format it with vfs.VfsLfs2.mkfs(bdev), or completely erase the flash and\r\nreprogram MicroPython.\r\n\r\n"
    )

    async def scene(session: Session) -> None:
        session.boot()
        assert await session.until(complaint) == complaint
        assert await session.until(complaint) == complaint
        session.type(b"\x03")
        assert b"KeyboardInterrupt" in await session.until(FRIENDLY)
        assert b"ENODEV" in await session.line(b"open('x', 'w')")
        await session.line(b"import vfs, flashbdev; vfs.VfsLfs2.mkfs(flashbdev.bdev)")
        session.boot()
        await session.until(FRIENDLY)
        assert await session.line(b"import os; os.listdir()") == b"[]\r\n"

    on(chip, scene)


def test_builds_for_other_flash_sizes_have_no_filesystem_here() -> None:
    """The 512 KB build has none; the 2 MB build on 1 MB says EIO at boot and comes up without one: the false pass."""

    async def small(session: Session) -> None:
        session.boot()
        assert (await session.until(FRIENDLY)).startswith(b"\r\nMicroPython v1.27.0 on 2025-12-09; ESP module (512K)")
        assert b"ENODEV" in await session.line(b"open('x', 'w')")

    async def large(session: Session) -> None:
        session.boot()
        said = await session.until(FRIENDLY)
        assert b"OSError: [Errno 5] EIO" in said
        assert b"; ESP module with ESP8266\r\n" in said
        assert b"ENODEV" in await session.line(b"open('x', 'w')")

    on(board(variant="512K"), small)
    on(board(variant="2M"), large)


def test_an_image_that_is_no_micropython_says_nothing() -> None:
    """Another firmware may boot; this bench cannot play it, so it is silent."""

    async def scene(session: Session) -> None:
        session.boot()
        session.type(b"\r\x03\x01")
        await asyncio.sleep(0.3)
        assert session.heard == b""

    on(board(image=make_image().replace(b"MicroPython v", b"NodeMCU 3.0.0")), scene)


def test_machine_reset_resets_the_board_and_the_cause_is_known_afterwards() -> None:
    """`machine.reset()` asks the bench for a software reset and does not come back; the next boot knows why it is one."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        session.type(b"import machine\nmachine.reset()\nprint('back')\x04")
        assert await session.until_reset() == "software"
        chip.reset_cause = ResetCause.SOFTWARE
        session.boot()
        assert b"back" not in await session.until(FRIENDLY)
        same = await session.line(b"import machine; machine.reset_cause() == machine.SOFT_RESET")
        assert same == b"True\r\n"

    on(chip, scene)


def test_wifi_settings_survive_a_reset_and_an_erase_forgets_them() -> None:
    """The access point is up under the board's name, stays off once switched off, and is back after a full erase."""
    chip = board()
    ask = "import network\nap = network.WLAN(network.AP_IF)\nprint(ap.active(), ap.config('essid'))"

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        assert (await session.run(ask))[0] == b"True MicroPython-ddc142\r\n"
        await session.run("ap.active(False)")
        await session.to_raw_repl()
        assert (await session.run(ask))[0] == b"False MicroPython-ddc142\r\n"
        await session.run("network.WLAN(network.STA_IF).active(True)")
        printed, _ = await session.run("print(network.WLAN(network.STA_IF).scan()[0])")
        assert printed.startswith(b"(b'bench', b'\\x02\\x00")
        image = make_image()
        chip.flash.erase_chip()
        chip.flash.program(0, image)
        await session.to_raw_repl()
        assert (await session.run(ask))[0] == b"True MicroPython-ddc142\r\n"

    on(chip, scene)


def test_stale_sdk_parameters_stop_the_first_boot() -> None:
    """An access point that a former firmware switched off makes set-up fail: no filesystem, though everything verified."""
    chip = board()

    async def scene(session: Session) -> None:
        await session.to_raw_repl()
        await session.run("import network\nnetwork.WLAN(network.AP_IF).active(False)")
        for sector in range(98):
            chip.flash.erase_sector(FILESYSTEM_START + sector * 4096)
        session.boot()
        assert b"OSError: can't set AP config" in await session.until(FRIENDLY)
        assert b"ENODEV" in await session.line(b"open('x', 'w')")

    on(chip, scene)
