"""The machine the station runs on: the facts every record carries, and the lock against a second daemon."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from station.adapters.host import host_facts, only_daemon
from station.errors import ConfigurationError

HOLD = (
    "import sys, pathlib\n"
    "from station.adapters.host import only_daemon\n"
    "with only_daemon(pathlib.Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@contextmanager
def another_daemon(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the state directory."""
    command = [sys.executable, "-c", HOLD, str(state_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_facts_are_those_of_this_machine() -> None:
    """Kernel, boot and versions are read from the machine, and the clock says yes, no or nothing."""
    facts = host_facts("bench-1", "5.6.0")
    assert (facts.station_id, facts.esptool_version) == ("bench-1", "5.6.0")
    assert facts.kernel_version == platform.release()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    assert facts.station_version[0].isdigit()
    assert facts.clock_synchronised in (True, False, None)


@pytest.mark.parametrize(("state", "synchronised"), [(0, True), (1, True), (4, True), (5, False), (-1, None)])
def test_the_clock_is_asked_each_time_and_never_set(
    monkeypatch: pytest.MonkeyPatch, *, state: int, synchronised: bool | None
) -> None:
    """adjtimex(2) is asked with no mode bit set; its TIME_ERROR means not synchronised, its refusal nothing."""
    asked: list[bytes] = []

    class Libc:
        """The one function."""

        def adjtimex(self, timex) -> int:
            """Answer with the state, keep what was asked."""
            asked.append(timex.raw)
            return state

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_kwargs: Libc())
    assert host_facts("x", "y").clock_synchronised is synchronised
    assert len(asked) == 1
    assert not any(asked[0]), "a mode bit would set the clock"


def test_a_machine_without_boot_id_has_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without /proc the record has no boot id, and the job runs."""
    read_text = Path.read_text

    def refuse(path: Path, *args, **kwargs) -> str:
        if path.name == "boot_id":
            raise FileNotFoundError
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert host_facts("x", "y").boot_id == ""


def test_a_second_daemon_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    """The message names the directory, the PID that holds it, and the two ways out."""
    with another_daemon(tmp_path) as first:
        with pytest.raises(ConfigurationError) as refused, only_daemon(tmp_path):
            pytest.fail("two daemons in one state directory")
        assert refused.value.file == str(tmp_path)
        assert f"PID {first.pid}" in refused.value.problem
        assert "stop it first" in refused.value.fix
        assert "station.state_dir" in refused.value.fix


def test_a_killed_daemon_leaves_no_lock(tmp_path: Path) -> None:
    """After kill -9 the next daemon starts at once and puts its own PID in place of the dead one's."""
    with another_daemon(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait()
        with only_daemon(tmp_path):
            assert (tmp_path / "lock").read_text("ascii") == f"{os.getpid()}\n"


def test_a_stopped_daemon_lets_go(tmp_path: Path) -> None:
    """The lock ends with the block, also when it ends in an exception, and the directory is made when needed."""
    state_dir = tmp_path / "var" / "lib" / "station"
    with pytest.raises(RuntimeError, match="over"), only_daemon(state_dir):
        raise RuntimeError("over")
    with only_daemon(state_dir):
        pass


def test_a_directory_that_cannot_be_made_is_a_message(tmp_path: Path) -> None:
    """A file in the way of the state directory is named with the key to correct."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError) as refused, only_daemon(tmp_path / "file" / "state"):
        pytest.fail("no such directory can be")
    assert refused.value.key == "station.state_dir"
    assert "Not a directory" in refused.value.problem


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    """Neither a held lock that ended nor a refused one leaks a descriptor."""
    before = _descriptors()
    with only_daemon(tmp_path):
        pass
    with another_daemon(tmp_path):
        for _ in range(3):
            with pytest.raises(ConfigurationError), only_daemon(tmp_path):
                pytest.fail("held elsewhere")
    assert _descriptors() == before


def _descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}
