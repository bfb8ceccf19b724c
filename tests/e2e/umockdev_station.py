"""The unmodified `station` command on a mocked machine: programmers come and go by uevents, their ttys are ptys.

Nothing of the station is replaced: it runs as a process of its own below umockdev's preload library, hears real netlink
messages, opens `/dev/ttyUSB0` and moves DTR and RTS by the ioctl of a real port. Only what a kernel would have behind
those is played here. It must never tell the station anything but what sysfs, uevents and ttys tell.
"""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import termios
import tty
from asyncio import AbstractEventLoop, run_coroutine_threadsafe
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_long, c_size_t, c_ulong, c_void_p
from functools import partial
from pathlib import Path

from station.bench.programmer import VirtualProgrammer
from tests.adapters.umockdev import Adapter, Testbed
from tests.e2e.command import PATIENCE_S, STATION, Running

SetLines = Callable[[bool, bool], None]
"""Called with DTR and RTS (True: asserted); raises OSError when the programmer is gone."""

_ON_IOCTL = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)
# The station believes that udev is there when this file is; libudev too. A machine that runs the tests may have none, and
# /run is not one of the directories that umockdev mocks, so the station gets a mount namespace with a /run of its own.
_WITH_UDEV = 'mount -t tmpfs tmpfs /run && mkdir /run/udev && touch /run/udev/control && exec "$@"'


@contextmanager
def started(
    testbed: Testbed, directory: Path, *arguments: object, stdin: int = subprocess.DEVNULL
) -> Iterator[Running]:
    """Start `station ARGUMENTS…` on the mocked machine; its output is in files in `directory`; killed at the end."""
    number = len(list(directory.glob("*.err")))
    out, err = directory / f"{number}.out", directory / f"{number}.err"
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            [*namespace, "sh", "-c", _WITH_UDEV, "sh", STATION, *map(str, arguments)],
            env={**os.environ, "UMOCKDEV_DIR": str(testbed.root)},
            stdin=stdin,
            stdout=out_file,
            stderr=err_file,
        )
    try:
        yield Running(process, out, err)
    except BaseException as error:
        error.add_note(f"station {arguments[0]} said:\n{err.read_text(errors='replace')}")
        raise
    finally:
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


class MockedTty:
    """`/dev/NAME` of a testbed, with a pty behind it; made before its uevent, as the kernel makes it.

    Its ioctls are carried out on the pty in the process that asks, but for TIOCMSET where `set_lines` takes the lines: a
    pty has none. `requests` are all ioctls so far; whoever opens a tty the way the station does leaves some.
    """

    def __init__(self, testbed: Testbed, adapter: Adapter, pty: str, set_lines: SetLines | None = None) -> None:
        (name,) = adapter.ttys
        self.requests: list[int] = []
        self._set_lines = set_lines
        self._library, self._testbed, self._node = _with_ioctls(testbed._library), testbed._testbed, f"/dev/{name}"
        device, rdev = testbed.root / "dev", Path(pty).stat().st_rdev
        number = f"{os.major(rdev)}:{os.minor(rdev)}"
        self._links = {
            device / name: pty,
            device / ".node" / name: number,
            # By this link the station sees whether the tty that it has opened belongs to the plug that it means.
            testbed.sys / "dev/char" / number: f"../../{adapter.tty_directory(name)}",
        }
        for link, target in self._links.items():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        self._on_ioctl = _ON_IOCTL(self._answer)  # called on umockdev's own thread; must live as long as the tty
        server = self._library.umockdev_ioctl_base_new()
        testbed._gobject.g_signal_connect_data(
            c_void_p(server), b"handle-ioctl", self._on_ioctl, c_void_p(), c_void_p(), 0
        )
        self._call(self._library.umockdev_testbed_attach_ioctl, self._testbed, self._node.encode(), server)

    def remove(self) -> None:
        """Take the node away; who has it open keeps the pty."""
        self._call(self._library.umockdev_testbed_detach_ioctl, self._testbed, self._node.encode())
        for link in self._links:
            link.unlink()

    def _answer(self, _server: int, client: int, _data: int) -> int:
        request = self._library.umockdev_ioctl_client_get_request(client)
        self.requests.append(request)
        if request == termios.TIOCMSET and self._set_lines is not None:
            result, number = self._move_lines(client, self._set_lines)
        else:
            failure = c_int()
            result = self._call(self._library.umockdev_ioctl_client_execute, client, byref(failure))
            number = failure.value
        self._library.umockdev_ioctl_client_complete(client, result, number)
        return 1

    def _move_lines(self, client: int, set_lines: SetLines) -> tuple[int, int]:
        """Read the int behind the ioctl's pointer from the asking process; return result and errno."""
        # What these functions return is ours to free; a few bytes per moved line are not worth it.
        argument = self._library.umockdev_ioctl_client_get_arg(client)
        pointed = self._call(self._library.umockdev_ioctl_data_resolve, argument, 0, ctypes.sizeof(c_int), 1, 0)
        copy, length = POINTER(c_int)(), c_int()
        self._library.umockdev_ioctl_data_retrieve(pointed, byref(copy), byref(length))
        bits = copy[0]
        try:
            set_lines(bool(bits & termios.TIOCM_DTR), bool(bits & termios.TIOCM_RTS))
        except OSError as error:
            return -1, error.errno or errno.EIO
        return 0, 0

    def _call(self, function: Callable[..., int], *arguments: object) -> int:
        """Call a function whose last argument is a GError."""
        error = c_void_p()
        result = function(*arguments, byref(error))
        if error.value is not None:
            raise OSError(f"{self._node}: umockdev refused {function}")
        return result


def _with_ioctls(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the functions of umockdev's ioctl API that are used here (umockdev.h 0.17)."""
    for name, returns, takes in (
        ("umockdev_ioctl_base_new", c_void_p, []),
        ("umockdev_testbed_attach_ioctl", c_int, [c_void_p, c_char_p, c_void_p, c_void_p]),
        ("umockdev_testbed_detach_ioctl", c_int, [c_void_p, c_char_p, c_void_p]),
        ("umockdev_ioctl_client_get_request", c_ulong, [c_void_p]),
        ("umockdev_ioctl_client_get_arg", c_void_p, [c_void_p]),
        ("umockdev_ioctl_client_execute", c_int, [c_void_p, c_void_p, c_void_p]),
        ("umockdev_ioctl_client_complete", None, [c_void_p, c_long, c_int]),
        ("umockdev_ioctl_data_resolve", c_void_p, [c_void_p, c_size_t, c_size_t, c_int, c_int, c_void_p]),
        ("umockdev_ioctl_data_retrieve", None, [c_void_p, c_void_p, c_void_p]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library


class Plugged:
    """A programmer that was plugged into a place just now: node first, then device and uevents, as from a kernel."""

    def __init__(
        self,
        testbed: Testbed,
        adapter: Adapter,
        *,
        pty: str,
        cut_off: Callable[[], None],
        set_lines: SetLines | None = None,
    ) -> None:
        self._testbed, self._adapter, self._cut_off = testbed, adapter, cut_off
        self.tty = MockedTty(testbed, adapter, pty, set_lines)
        testbed.plug(adapter)

    def unplug(self) -> None:
        """Pull it out: first the line is dead, then node and device go, with their uevents."""
        self._cut_off()
        self.tty.remove()
        self._testbed.unplug(self._adapter)


def plug_silent(testbed: Testbed, adapter: Adapter) -> Plugged:
    """Plug in a programmer at whose other end nobody ever answers: a plain pty, which has no lines."""
    master, slave = os.openpty()
    tty.setraw(slave)
    pty = os.ttyname(slave)
    os.close(slave)
    return Plugged(testbed, adapter, pty=pty, cut_off=partial(os.close, master))


def plug_board(testbed: Testbed, adapter: Adapter, programmer: VirtualProgrammer, loop: AbstractEventLoop) -> Plugged:
    """Plug in a programmer with a virtual board, which `loop`, in another thread, plays."""

    async def plug() -> str:
        return programmer.plug()

    async def unplug() -> None:
        programmer.unplug()

    def set_lines(dtr: bool, rts: bool) -> None:  # noqa: FBT001 - the two lines
        programmer.set_lines(dtr=dtr, rts=rts)

    def cut_off() -> None:
        run_coroutine_threadsafe(unplug(), loop).result(PATIENCE_S)

    pty = run_coroutine_threadsafe(plug(), loop).result(PATIENCE_S)
    return Plugged(testbed, adapter, pty=pty, cut_off=cut_off, set_lines=set_lines)
