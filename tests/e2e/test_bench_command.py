"""`station bench`: virtual boards for any serial client; its links, its switches, what it writes, and who may use it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.bench.scenario import plan
from station.bench.usb.vhci import CONTROLLER
from station.demo import write_demo_recipe
from station.model import format_mac
from station.recipe import Recipe, load_recipe
from tests.e2e.command import PATIENCE_S, Running, started, station, wait_for

FLASH_BYTES = 1 << 20
FAULTS = ("A1:swapped", "A2:port_busy", "A3:adapter_hung")
LABELS = ("A1", "A2", "A3", "A4", "A5", "A6")
STATS = {"bytes_from_host", "bytes_to_host", "erases", "programs", "frames_lost", "resets"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The recipe of the demo."""
    return load_recipe(write_demo_recipe(tmp_path_factory.mktemp("recipe"))[0])


def bench_arguments(ports: Path, slots: int, *options: object) -> tuple[object, ...]:
    """The arguments of a bench as fast as possible."""
    return ("bench", "--slots", slots, "--dir", ports, "--pace", 0, *options)


def await_links(ports: Path, labels: tuple[str, ...], bench: Running) -> None:
    """Wait until every tty is linked."""
    for label in labels:
        wait_for((ports / label).exists, f"the tty {label}", bench)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    """One bench for the tests that only use it."""
    directory = tmp_path_factory.mktemp("bench")
    options = [word for fault in FAULTS for word in ("--fault", fault)]
    with started(directory, *bench_arguments(directory / "ports", len(LABELS), "--seed", 5, *options)) as running:
        await_links(directory / "ports", ("A1", "A2", "A4", "A5", "A6"), running)
        yield running, directory / "ports"


def tool(*command: object) -> str:
    """Run an unmodified tool of the environment; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def esptool(port: Path, *command: object) -> str:
    """Run esptool as it is."""
    return tool("esptool", "--port", port, *command)


def mpremote(port: Path, *command: object) -> str:
    """Run mpremote as it is."""
    return tool("mpremote", "connect", port, *command)


def stats(running: Running, ports: Path) -> dict[str, dict[str, int]]:
    """Ask for the counts."""
    (ports / "stats.json").unlink(missing_ok=True)
    running.process.send_signal(signal.SIGUSR1)
    wait_for((ports / "stats.json").exists, "the counts", running)
    return dict(json.loads((ports / "stats.json").read_text()))


def test_other_tools_use_the_boards_as_they_are(bench: tuple[Running, Path], recipe: Recipe) -> None:
    """The unmodified esptool reads and writes a board; then the board runs MicroPython, and mpremote talks to it."""
    port = bench[1] / "A4"
    chip = plan(LABELS, len(LABELS), 5, (), b"").boards["A4"][0].chip
    assert format_mac(chip.mac) in esptool(port, "read-mac").lower()
    assert "1MB" in esptool(port, "flash-id")
    esptool(port, "write-flash", "0", recipe.firmware_path)
    assert mpremote(port, "exec", "print(6 * 7)").strip() == "42"
    assert "1.27.0" in mpremote(port, "exec", "import os; print(os.uname().release, os.uname().version)")


def test_other_tools_use_a_board_that_passed(bench: tuple[Running, Path], recipe: Recipe, tmp_path: Path) -> None:
    """A board that `station flash` has passed keeps files that mpremote puts on it, over a loss of power."""
    port = bench[1] / "A5"
    done = station("flash", "--json", "--port", port, "--recipe", recipe.file, "--no-record")
    assert done.code == 0, done.err
    (tmp_path / "note.txt").write_text("hello from the bench\n")
    mpremote(port, "fs", "cp", tmp_path / "note.txt", ":note.txt")
    assert mpremote(port, "fs", "cat", ":note.txt") == "hello from the bench\n"
    assert "note.txt" in mpremote(port, "fs", "ls")


def test_the_faults_that_need_the_bench_itself_are_played(
    bench: tuple[Running, Path], recipe: Recipe, tmp_path: Path
) -> None:
    """A held port names its holder, an adapter that hangs cannot be opened, and a swapped board is not the flashed one."""
    config = tmp_path / "station.toml"
    config.write_text(f'[station]\nstate_dir = "{tmp_path}"\n[flashing]\nport_busy_s = 0.2\n')
    found = {}
    for label in ("A1", "A2", "A3"):
        arguments = ("--json", "--port", bench[1] / label, "--recipe", recipe.file, "--config", config)
        found[label] = station("flash", *arguments)
        assert found[label].code == 2, found[label].err
    assert [job["reason"] for job in found["A1"].json["jobs"]] == ["identity_mismatch", "identity_mismatch"]
    flashed, other = found["A1"].json["jobs"]
    assert (flashed["state"], other["state"], other["outcome"]) == ("pending", "closed", "ERROR")
    assert [visit["finding"] for visit in found["A2"].json["visits"]] == ["port_busy"]
    assert re.search(r"port held by \S+ \([0-9]+\)", found["A2"].err)
    assert [visit["finding"] for visit in found["A3"].json["visits"]] == ["adapter_hung"]


def test_closing_the_port_is_the_power_cycle_however_short(bench: tuple[Running, Path]) -> None:
    """A client that closes the port and opens it again at once has still cut the board's power."""
    running, ports = bench
    first = os.open(ports / "A6", os.O_RDWR | os.O_NOCTTY)
    before = stats(running, ports)["A6"]["resets"]
    os.close(first)
    second = os.open(ports / "A6", os.O_RDWR | os.O_NOCTTY)
    try:
        wait_for(lambda: stats(running, ports)["A6"]["resets"] == before + 1, "the power cycle", running)
    finally:
        os.close(second)


def test_what_is_in_flash_and_the_counts_are_written_on_request_and_at_the_end(tmp_path: Path, recipe: Recipe) -> None:
    """SIGUSR1 and SIGTERM write each board's flash and the counts, whole; SIGTERM also takes the links away, exit 0."""
    ports = tmp_path / "ports"
    with started(tmp_path, *bench_arguments(ports, 2, "--boot", "rom")) as running:
        await_links(ports, ("A1", "A2"), running)
        counts = stats(running, ports)
        assert {label: set(count) for label, count in counts.items()} == {"A1": STATS, "A2": STATS}
        assert counts["A1"]["programs"] == 0
        assert (ports / "A1.flash").read_bytes() == b"\xff" * FLASH_BYTES
        esptool(ports / "A1", "write-flash", "--flash-mode", "keep", "--flash-size", "keep", "0", recipe.firmware_path)
        done = running.end()
    assert (done.code, done.out) == (0, "")
    assert sorted(path.name for path in ports.iterdir()) == ["A1.flash", "A2.flash", "stats.json"]
    assert (ports / "A1.flash").read_bytes() == recipe.image.ljust(FLASH_BYTES, b"\xff")
    assert (ports / "A2.flash").read_bytes() == b"\xff" * FLASH_BYTES
    counts = json.loads((ports / "stats.json").read_text())
    assert counts["A1"]["programs"] > 0
    assert counts["A1"]["bytes_from_host"] > counts["A2"]["bytes_from_host"]


@pytest.mark.parametrize(("options", "second"), [(("--boot", "rom"), 0), (("--wiring", "manual"), 0), ((), 3)])
def test_the_boot_switch_says_where_a_board_comes_up(
    tmp_path: Path, recipe: Recipe, options: tuple[str, ...], second: int
) -> None:
    """`rom`, which is what GPIO0 at GND by hand means, is the loader every time; `auto` only until there is an image."""
    ports = tmp_path / "ports"
    with started(tmp_path, *bench_arguments(ports, 1, *options)) as running:
        await_links(ports, ("A1",), running)
        arguments = ("--port", ports / "A1", "--recipe", recipe.file, "--no-record", "--until", "flash")
        codes = [station("flash", *arguments).code for _ in range(2)]
        assert codes == [0, second]
        assert running.end().code == 0


def test_links_of_an_earlier_bench_are_replaced_and_files_are_not(tmp_path: Path) -> None:
    """A link that a killed bench left behind is replaced; anything else in its place is refused with 78 and kept."""
    ports = tmp_path / "ports"
    ports.mkdir()
    (ports / "A1").symlink_to("/dev/pts/99999")
    with started(tmp_path, *bench_arguments(ports, 1)) as running:
        await_links(ports, ("A1",), running)
        first = (ports / "A1").readlink()
        with started(tmp_path, *bench_arguments(ports, 1)) as later:
            taken_over = wait_for(lambda: _leads_elsewhere(ports / "A1", first), "the link to move", later)
            assert running.end().code == 0
            assert (ports / "A1").readlink() == taken_over
            assert later.end().code == 0
    assert not (ports / "A1").is_symlink()
    (ports / "A2").write_text("a letter")
    said = station(*bench_arguments(ports, 2)).refused(78)
    assert f"{ports / 'A2'}: exists and is no link" in said
    assert (ports / "A2").read_text() == "a letter"


def _leads_elsewhere(link: Path, first: Path) -> Path | None:
    """Where the link leads as soon as it is another tty than at first."""
    try:
        now = link.readlink()
    except FileNotFoundError:
        return None
    return now if now != first else None


def test_a_small_image_is_written_for_slow_lines(tmp_path: Path) -> None:
    """`--small-image` writes an image that a recipe takes, says its sha256 and ends without a bench."""
    said = station("bench", "--small-image", tmp_path / "small.bin")
    assert said.code == 0, said.err
    sha256 = hashlib.sha256((tmp_path / "small.bin").read_bytes()).hexdigest()
    assert said.out == f"{tmp_path / 'small.bin'}: 49152 bytes, sha256 {sha256}\n"
    (tmp_path / "recipe.toml").write_text(f'[firmware]\npath = "small.bin"\nsha256 = "{sha256}"\n')
    assert station("recipe", "check", tmp_path / "recipe.toml").code == 0
    nowhere = tmp_path / "no" / "small.bin"
    assert f"{nowhere}: cannot be written" in station("bench", "--small-image", nowhere).refused(78)


@pytest.mark.skipif(CONTROLLER.exists(), reason="this kernel has vhci_hcd: the real devices are tested in acceptance")
def test_usb_without_a_virtual_host_controller_is_refused(tmp_path: Path) -> None:
    """`--usb` on a kernel without vhci_hcd: 78, and the one command that helps."""
    said = station("bench", "--usb", "--slots", 1, "--dir", tmp_path / "ports").refused(78)
    assert "sudo modprobe vhci_hcd" in said
    assert not (tmp_path / "ports").exists()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """`--dir` below a file: 78, one clear line, no traceback."""
    (tmp_path / "file").write_text("")
    assert "cannot be used" in station(*bench_arguments(tmp_path / "file" / "ports", 1)).refused(78)
