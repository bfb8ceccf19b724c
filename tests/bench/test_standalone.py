"""`station bench` by hand: what a person types moves programmers, boards and jumpers; judged by the unmodified esptool."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bench.test_programmer_kinds import QUICKLY, tool

PATIENCE_S = 30.0
FIRST_MAC = "5c:cf:7f"


class Bench:
    """`station bench` in a process of its own, and the person at its standard input."""

    def __init__(self, process: "subprocess.Popen[str]", directory: Path) -> None:
        self.process, self.directory = process, directory
        self.said: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def type(self, line: str, answer: str) -> None:
        """Type a line and wait until something with `answer` in it is said."""
        assert self.process.stdin is not None
        before = len(self.said)
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        with self._news:
            assert self._news.wait_for(lambda: any(answer in said for said in self.said[before:]), PATIENCE_S), (
                self.said
            )

    def await_said(self, text: str) -> None:
        """Wait until this was said."""
        with self._news:
            assert self._news.wait_for(lambda: any(text in said for said in self.said), PATIENCE_S), self.said

    def loader_says(self, label: str) -> str:
        """The MAC that esptool reads behind this link; empty when no loader answers."""
        code, said = tool("esptool", "--port", self.directory / label, *QUICKLY, "--no-stub", "read-mac")
        return said.rpartition("MAC:")[2].split()[0] if code == 0 else ""

    def end(self) -> int:
        """End it as Ctrl-C does and return its exit code."""
        self.process.terminate()
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said.append(line)
                self._news.notify_all()


@contextmanager
def running(directory: Path, *options: str) -> Iterator[Bench]:
    """A bench with two slots as fast as possible."""
    command = [
        sys.executable,
        "-m",
        "station",
        "bench",
        "--slots",
        "2",
        "--dir",
        str(directory),
        "--pace",
        "0",
        *options,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        bench = Bench(process, directory)
        try:
            bench.await_said("2 boards from")
            bench.type("jumper A1", "write jumper SLOT on|off")  # it is answered when every programmer is linked
            yield bench
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(PATIENCE_S)


def test_a_person_plays_a_stick_with_a_jumper(tmp_path: Path) -> None:
    """Jumper off changes nothing until the programmer is pulled and plugged in again; then the board leaves its loader."""
    with running(tmp_path, "--wiring", "manual", "--keep-power") as bench:
        assert bench.loader_says("A1").startswith(FIRST_MAC)
        bench.type("jumper A1 off", "A1: GPIO0 is free when the board next gets power")
        assert bench.loader_says("A1").startswith(FIRST_MAC), "closing the port is no power cycle"
        bench.type("unplug A1", "A1: unplugged")
        assert not (tmp_path / "A1").is_symlink()
        bench.type("plug A1", "A1: plugged in")
        assert bench.loader_says("A1") == ""
        bench.type("jumper A1 on", "A1: GPIO0 is at GND")
        assert bench.loader_says("A1") == ""
        bench.type("unplug A1", "A1: unplugged")
        bench.type("plug A1", "A1: plugged in")
        assert bench.loader_says("A1").startswith(FIRST_MAC)
        assert bench.end() == 0


def test_a_person_plays_a_fixture(tmp_path: Path) -> None:
    """Boards are lifted and seated while the tty stays; a board keeps its flash in whatever slot it sits."""
    image = tmp_path / "image.bin"
    image.write_bytes(b"text " * 2000)
    ports = tmp_path / "ports"
    with running(ports, "--wiring", "fixture") as bench:
        tty = (ports / "A1").readlink()
        first, second = bench.loader_says("A1"), bench.loader_says("A2")
        assert first != second
        assert tool("esptool", "--port", tty, *QUICKLY, "--after", "no-reset", "write-flash", "0", image)[0] == 0
        bench.type("seat A1", "there is a board in A1 already")
        bench.type("lift A1", f"A1: empty, the board {first} is in your hand")
        bench.type("lift A1", "there is no board in A1")
        assert bench.loader_says("A1") == ""
        bench.type("seat A1 A2", "the board A2 is in A2")
        bench.type("lift A2", f"A2: empty, the board {second} is in your hand")
        bench.type("seat A1 A2", f"A1: has the board A2, {second}")
        bench.type("seat A2 A1", f"A2: has the board A1, {first}")
        assert (bench.loader_says("A1"), bench.loader_says("A2")) == (second, first)
        assert (ports / "A1").readlink() == tty
        assert tool("esptool", "--port", ports / "A2", *QUICKLY, "verify-flash", "0", image)[0] == 0
        assert bench.end() == 0
    assert (ports / "A1.flash").read_bytes().startswith(b"text text ")
    assert (ports / "A2.flash").read_bytes().startswith(b"\xff" * 64)


def test_what_cannot_be_done_is_refused_in_words(tmp_path: Path) -> None:
    """The bench says what is wrong, names what is accepted, and goes on."""
    with running(tmp_path) as bench:
        bench.type("dance", "dance: no such command; the commands are: plug SLOT…, unplug SLOT…, jumper SLOT on|off")
        bench.type("plug A1", "plug A1: A1 is plugged in already")
        bench.type("plug Z9", "there is no slot Z9; the slots are: A1, A2")
        bench.type("jumper A1 maybe", "the jumper is on or off, not 'maybe'")
        bench.type("lift", "write lift SLOT")
        bench.type("unplug A1", "A1: unplugged")
        bench.type("seat A1 B7", "there is no board B7")
        (tmp_path / "A1").write_text("a letter")
        bench.type("plug A1", "exists and is no link")
        (tmp_path / "A1").unlink()
        bench.type("plug A1", "A1: plugged in")
        assert bench.loader_says("A1").startswith(FIRST_MAC)
        assert bench.end() == 0


def test_several_programmers_move_in_one_go(tmp_path: Path) -> None:
    """`unplug` and `plug` take as many slots as there are, and do nothing when one of them is wrong."""
    with running(tmp_path) as bench:
        bench.type("unplug A1 Z9", "there is no slot Z9")
        assert (tmp_path / "A1").is_symlink()
        bench.type("unplug A1 A2", "A1, A2: unplugged")
        assert not any((tmp_path / label).is_symlink() for label in ("A1", "A2"))
        bench.type("plug A2", "A2: plugged in")
        bench.type("plug A1 A2", "A2 is plugged in already")
        assert not (tmp_path / "A1").is_symlink()
        bench.type("unplug A2", "A2: unplugged")
        bench.type("plug A1 A2", "A1, A2: plugged in")
        assert bench.loader_says("A1") != bench.loader_says("A2")
        assert bench.end() == 0


def test_a_fresh_board_takes_the_place_of_another(tmp_path: Path) -> None:
    """`board` puts one in with a MAC and faults of its own, where nothing has power; what is wrong is said in words."""
    with running(tmp_path, "--wiring", "manual", "--keep-power") as bench:
        first, second = bench.loader_says("A1"), bench.loader_says("A2")
        bench.type("board A1", "unplug the programmer, or lift the board")
        bench.type("board", "write board SLOT [FAULT…]")
        bench.type("unplug A1", "A1: unplugged")
        bench.type("board A1 bad_luck", "unknown fault 'bad_luck'")
        bench.type("board A1 usb_limited", "only the adapters of `station bench --usb` have it")
        bench.type("board A1 twin_chip_id@Z9", "slot Z9 has no board")
        bench.type("board A1", "A1: has a fresh board")
        bench.type("plug A1", "A1: plugged in")
        assert bench.loader_says("A1") not in ("", first, second)
        bench.type("unplug A1", "A1: unplugged")
        bench.type("board A1 duplicate_mac@A2", f"A1: has a fresh board, {second}")
        bench.type("plug A1", "A1: plugged in")
        assert bench.loader_says("A1") == second
        bench.type("lift A2", "A2: empty")
        bench.type("board A2 no_answer", "A2: has a fresh board")
        assert bench.loader_says("A2") == ""
        assert bench.end() == 0


@pytest.mark.parametrize("fault", ["A1:adapter_hung", "A1:port_busy"])
def test_a_new_plug_gives_a_programmer_that_can_be_opened(tmp_path: Path, fault: str) -> None:
    """An adapter that hangs is cured by pulling it; a port that another process holds is held again, by another one."""
    with running(tmp_path, "--fault", fault) as bench:
        assert bench.loader_says("A1") == ""
        bench.type("unplug A1", "A1: unplugged")
        bench.type("plug A1", "A1: plugged in")
        assert (bench.loader_says("A1") != "") == (fault == "A1:adapter_hung")
        assert bench.end() == 0


def test_the_end_of_standard_input_is_not_the_end_of_the_bench(tmp_path: Path) -> None:
    """A bench whose person has left goes on serving its ttys."""
    with running(tmp_path) as bench:
        assert bench.process.stdin is not None
        bench.process.stdin.close()
        assert bench.loader_says("A2").startswith(FIRST_MAC)
        assert bench.end() == 0
