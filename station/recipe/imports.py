"""Which modules a program imports, read from its text and never run, held against those that there will be on the board.

An import inside `try` whose `except` catches an `ImportError` may fail; then the imports of that `except` count. What a
module of the firmware has inside is not looked up; what a directory of the tree has is. Nothing here reads a file.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_CATCH_ALL = {"ImportError", "Exception", "BaseException"}


def parse(source: bytes) -> ast.Module:
    """Return the program; raises `ValueError` with line and message where it is none."""
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ValueError(f"line {error.lineno}: SyntaxError: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ValueError("nested too deeply to be read") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """The modules that there will be on the board."""

    firmware: Collection[str]
    """Top-level names; whatever they have inside is there."""
    tree: Collection[str] = ()
    """Names with dots, as `modules_in` returns them."""
    package: str | None = None
    """Where the program lies in the tree (`package_of`); None: its relative imports are not looked up."""

    def first_missing(self, name: str) -> Iterator[str]:
        """Yield the first part of a name with dots that is not there, or nothing."""
        parts = name.split(".")
        if name.startswith("."):
            yield name
        elif parts[0] not in self.firmware:
            prefixes = itertools.accumulate(parts, "{}.{}".format)
            yield from itertools.islice((prefix for prefix in prefixes if prefix not in self.tree), 1)

    def is_bare_directory(self, name: str) -> bool:
        """Whether this is a directory of the tree without a program that says what it has."""
        lies_below = any(module.startswith(f"{name}.") for module in self.tree)
        return name.partition(".")[0] not in self.firmware and lies_below and f"{name}.__init__" not in self.tree


def missing_imports(program: ast.Module, available: Available) -> Iterator[tuple[str, int]]:
    """Yield module and line of every import that would fail where only these modules are there."""
    yield from _missing(program.body, available)


def modules_in(paths: Iterable[str], *, anywhere: bool = False) -> set[str]:
    """Return the modules that files at these paths of the board are, with dots: in `/` and `/lib`, where imports look.

    `anywhere`: a program changes `sys.path`, so modules in every directory count.
    """
    found: set[str] = set()
    for path in paths:
        parts = PurePosixPath(path).parts
        roots = range(len(parts)) if anywhere else (0, 1) if parts[:1] == ("lib",) else (0,)
        for root in roots:
            *inside, name = parts[root:]
            stem, dot, suffix = name.rpartition(".")
            modules = [*inside, stem] if dot and suffix in ("py", "mpy") else inside
            found.update(itertools.accumulate(modules, "{}.{}".format))
    return found


def package_of(path: str) -> str:
    """Return the directory of a program on the board as a module with dots; empty for the root."""
    return ".".join(PurePosixPath(path).parts[:-1])


def touches_path(program: ast.Module) -> bool:
    """Whether the program says `sys.path` anywhere."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id in ("sys", "usys")
        for node in ast.walk(program)
    )


def defines(program: ast.Module, name: str) -> bool:
    """Whether the program defines a function of this name at its top."""
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in program.body)


def _missing(nodes: Iterable[ast.AST], available: Available) -> Iterator[tuple[str, int]]:
    for node in nodes:
        if isinstance(node, ast.Try) and any(_catches(handler) for handler in node.handlers):
            if list(_missing(node.body, available)):
                yield from _missing(node.handlers, available)
            else:
                yield from _missing(node.orelse, available)
            yield from _missing(node.finalbody, available)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from _missing(node.orelse, available)
        else:
            for name, line in _imports(node, available):
                yield from ((missing, line) for missing in available.first_missing(name))
            yield from _missing(ast.iter_child_nodes(node), available)


def _imports(node: ast.AST, available: Available) -> Iterator[tuple[str, int]]:
    """The modules that this very node imports."""
    match node:
        case ast.Import():
            yield from ((alias.name, node.lineno) for alias in node.names)
        case ast.ImportFrom(level=level) if level == 0 or available.package is not None:
            module = _absolute(node, available.package or "")
            yield module, node.lineno
            if available.is_bare_directory(module):
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names if alias.name != "*")
        case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=str(module)), *_]):
            yield module, node.lineno


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """What a program in this package imports from; a name that begins with a dot where there is nothing so far up."""
    parts = package.split(".") if package else []
    up = node.level - 1
    if node.level == 0:
        return node.module or ""
    if up >= len(parts):
        return "." * node.level + (node.module or node.names[0].name)
    return ".".join([*parts[: len(parts) - up], *([node.module] if node.module else [])])


def _catches(handler: ast.ExceptHandler) -> bool:
    """Whether the program goes on after an import that failed: one that is raised again stops it all the same."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    catches = any(kind is None or (isinstance(kind, ast.Name) and kind.id in _CATCH_ALL) for kind in kinds)
    return catches and not isinstance(handler.body[-1], ast.Raise)
