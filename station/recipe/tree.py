"""The directory of files that come to the board: read once, every path checked, nothing followed out of it.

A tree is refused as a whole for anything that a board cannot hold or that nobody meant to ship: odd names, symbolic links,
devices, leavings of editors and version control. Nothing here talks to a board.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from station.errors import ConfigurationError
from station.recipe.nearest import nearest
from station.recipe.text import FilesSection, read_file

NAME_CAP_CHARACTERS = 60
PATH_CAP_CHARACTERS = 120
"""MicroPython's own buffer for paths on this chip holds 128 (`MICROPY_ALLOC_PATH_MAX`)."""
TREE_CAP_BYTES = 16 << 20
"""The largest flash of an ESP8266; a tree beyond it is a slip, and is not read."""
TREE_CAP_FILES = 2000
UPLOAD_SUFFIX = ".tmp~"
"""What a file is called while it is uploaded; no file of a recipe may be."""
STARTED_BY_NAME = ("boot.py", "main.py")
"""MicroPython starts these, and only as source: they stay uncompiled."""
_PRINTABLE = re.compile(r"[ -~]+")
_LEAVINGS = re.compile(r"__pycache__|\.git|\.svn|\.hg|\.DS_Store|Thumbs\.db|.*\.py[co]|.*\.sw[op]|.*~")


class TreeFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the tree, not compiled yet."""

    source: str
    """Its path in the tree."""
    path: str
    """Its path on the board; of one that is to be compiled, with `.mpy`."""
    content: bytes
    is_compiled: bool
    fill_in: bool

    @property
    def sha256(self) -> str:
        """Of its bytes in the tree."""
        return hashlib.sha256(self.content).hexdigest()


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a tree holds, with the places on the board that it goes to."""

    root: str
    """Absolute path of the tree; empty where the recipe names none."""
    files: tuple[TreeFile, ...] = ()
    """Sorted by their path on the board."""
    directories: tuple[str, ...] = ()
    """On the board, sorted, parents before children; those of files included."""


NO_TREE = Tree(root="")


def inside(recipe: Path, key: str, named: str) -> Path:
    """Return the absolute path of what a recipe names by a path; raises `ConfigurationError` unless it lies beside it."""
    directory = recipe.resolve().parent
    found = directory / named
    if (
        PurePosixPath(named).is_absolute()
        or ".." in PurePosixPath(named).parts
        or not found.resolve().is_relative_to(directory)
    ):
        raise ConfigurationError(
            file=str(recipe),
            key=key,
            problem=f"{named!r} does not lie in the recipe's own directory",
            fix="copy it there and name it without .., so that one directory is the whole recipe",
        )
    return found


def path_problem(path: str) -> str:
    """Return what is wrong with a path on the board, or an empty string."""
    if not path or path.startswith("/") or path.endswith("/"):
        return "write it from the board's root, without a slash at either end"
    if len(path) > PATH_CAP_CHARACTERS:
        return f"longer than {PATH_CAP_CHARACTERS} characters"
    return next(filter(None, map(_name_problem, path.split("/"))), "")


def _name_problem(name: str) -> str:
    if name in ("", ".", ".."):
        return f"{name!r} is no name"
    if len(name) > NAME_CAP_CHARACTERS:
        return f"{name!r} is longer than {NAME_CAP_CHARACTERS} characters"
    if not _PRINTABLE.fullmatch(name) or "\\" in name or name != name.strip():
        return f"{name!r} has characters beyond printable ASCII, a backslash, or a space at an end"
    return f"{name!r} ends as half uploads do" if name.endswith(UPLOAD_SUFFIX) else ""


def read_tree(recipe: Path, section: FilesSection) -> Tree:
    """Read the tree that `[files]` names, say where each file goes, and check all of it; raises `ConfigurationError`."""
    for key, named in (("files.delete", section.delete), ("files.hold", section.hold)):
        _check_paths(recipe, key, named)
    if not section.tree:
        return _without_tree(recipe, section)
    root = inside(recipe, "files.tree", section.tree)
    sources, directories = _listed(recipe, root)
    compilable = [source for source in sources if source not in STARTED_BY_NAME]
    compiled = _chosen(recipe, "files.compile", section.compile, compilable)
    filled = _chosen(recipe, "files.fill_in", section.fill_in, sources)
    _check_choices(recipe, sorted(compiled), filled)
    _check_known(recipe, "files.rename", section.rename, sources)
    files = []
    for source in sources:
        path = section.rename.get(source, source)
        _check_paths(recipe, "files.rename" if source in section.rename else "files.tree", (path,))
        files.append(
            TreeFile(
                source=source,
                path=_compiled_path(recipe, path) if source in compiled else path,
                content=read_file(root / source, what="file", named_in=f"{recipe}: files.tree"),
                is_compiled=source in compiled,
                fill_in=source in filled,
            )
        )
    files.sort(key=lambda file: file.path)
    paths = [file.path for file in files]
    parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents} - {"."}
    directories = sorted({*directories, *parents})
    _check_plan(recipe, section, paths, directories)
    return Tree(root=str(root), files=tuple(files), directories=tuple(directories))


def _without_tree(recipe: Path, section: FilesSection) -> Tree:
    for key in ("compile", "fill_in", "rename", "hold"):
        if getattr(section, key):
            raise ConfigurationError(
                file=str(recipe), key=f"files.{key}", problem="there is no tree", fix="name a directory in files.tree"
            )
    return NO_TREE


def _listed(recipe: Path, root: Path) -> tuple[list[str], list[str]]:
    """Paths of all files and all directories below `root`, sorted; nothing but plain files and directories."""
    files: list[str] = []
    directories: list[str] = []
    size_bytes = 0
    if not os.path.isdir(root):  # noqa: PTH112 - False, and no exception, for what no path can be
        raise ConfigurationError(
            file=str(recipe), key="files.tree", problem=f"{root} is no directory", fix="name a directory"
        )
    for above, names, leaves in os.walk(root, onerror=_unreadable(recipe)):
        for name in (*names, *leaves):
            path = Path(above) / name
            shown, found = path.relative_to(root).as_posix(), path.lstat()
            _check_entry(recipe, shown, name, found.st_mode)
            (directories if stat.S_ISDIR(found.st_mode) else files).append(shown)
            size_bytes += found.st_size if stat.S_ISREG(found.st_mode) else 0
        if size_bytes > TREE_CAP_BYTES or len(files) > TREE_CAP_FILES:
            raise ConfigurationError(
                file=str(recipe),
                key="files.tree",
                problem=f"{root} holds more than any board can ({len(files)} files, {size_bytes} bytes so far)",
                fix="name a directory that holds the board's files and nothing else",
            )
    return sorted(files), sorted(directories)


def _unreadable(recipe: Path) -> Callable[[OSError], None]:
    def fail(error: OSError) -> None:
        raise ConfigurationError(
            file=str(recipe),
            key="files.tree",
            problem=f"{error.filename} cannot be read ({error.strerror})",
            fix="make it readable",
        )

    return fail


def _check_entry(recipe: Path, shown: str, name: str, mode: int) -> None:
    """Refuse what is no plain file or directory, and what nobody means to ship."""
    problem = ""
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        problem = f"{shown!r} is a symbolic link" if stat.S_ISLNK(mode) else f"{shown!r} is no plain file"
    elif _LEAVINGS.fullmatch(name):
        problem = f"{shown!r} is a leaving of another program"
    problem = problem or path_problem(shown)
    if problem:
        raise ConfigurationError(
            file=str(recipe), key="files.tree", problem=problem, fix="rename it or take it out of the tree"
        )


def _check_paths(recipe: Path, key: str, paths: Iterable[str]) -> None:
    for path in paths:
        problem = path_problem(path)
        if problem:
            raise ConfigurationError(
                file=str(recipe), key=key, problem=f"{path!r}: {problem}", fix="write a path such as lib/sensor.py"
            )


def _chosen(recipe: Path, key: str, patterns: Iterable[str], sources: Iterable[str]) -> set[str]:
    """The files that any of the patterns names; a pattern that names none is a slip."""
    chosen: set[str] = set()
    for pattern in patterns:
        form = _as_expression(pattern)
        found = {source for source in sources if form.fullmatch(source)}
        if not found:
            near = nearest(pattern, sources)
            raise ConfigurationError(
                file=str(recipe),
                key=key,
                problem=f"{pattern!r} names no file of the tree{near}",
                fix="write a path of the tree, with * for a part of a name and ** for any directories",
            )
        chosen |= found
    return chosen


def _as_expression(pattern: str) -> re.Pattern[str]:
    """`**/` any directories or none, `*` and `?` within one name."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern)), re.DOTALL
    )


def _check_choices(recipe: Path, compiled: list[str], filled: set[str]) -> None:
    for source in compiled:
        problem = "is no .py file" if not source.endswith(".py") else "is filled in as well" if source in filled else ""
        if problem:
            raise ConfigurationError(
                file=str(recipe),
                key="files.compile",
                problem=f"{source!r} {problem}",
                fix="compile programs that are the same on every board, and keep what differs in a file of its own",
            )


def _check_known(recipe: Path, key: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            problem = f"{name!r} is no file of the tree{nearest(name, known)}"
            raise ConfigurationError(file=str(recipe), key=key, problem=problem, fix="write the path of a file there")


def _compiled_path(recipe: Path, path: str) -> str:
    if not path.endswith(".py"):
        raise ConfigurationError(
            file=str(recipe),
            key="files.rename",
            problem=f"{path!r} is to be compiled and does not end in .py",
            fix="name it as a source; what is uploaded ends in .mpy",
        )
    return f"{path[:-3]}.mpy"


def _check_plan(recipe: Path, section: FilesSection, paths: list[str], directories: Iterable[str]) -> None:
    """Refuse two things under one name, and what contradicts itself."""
    _check_known(recipe, "files.hold", section.hold, paths)
    twice = [path for path, following in itertools.pairwise(paths) if path == following]
    both = sorted(set(paths) & set(directories))
    for problem in (
        *(f"two files become {path!r}" for path in twice),
        *(f"{path!r} is file and directory" for path in both),
    ):
        raise ConfigurationError(
            file=str(recipe), key="files.rename", problem=problem, fix="give each its own path on the board"
        )
    for gone in section.delete:
        if any(path == gone or path.startswith(f"{gone}/") for path in (*paths, *directories)):
            raise ConfigurationError(
                file=str(recipe),
                key="files.delete",
                problem=f"{gone!r} is brought to the board and deleted",
                fix="take it out of files.delete, or out of the tree",
            )


def hashed_form(tree: Tree, section: FilesSection) -> Mapping[str, object]:
    """Return what of `[files]` makes the product: what comes to which path, by the sha256 of its source, and what goes."""
    return {
        "files": [{"path": file.path, "sha256": file.sha256, "fill_in": file.fill_in} for file in tree.files],
        "directories": tree.directories,
        "delete": sorted(section.delete),
        "others": section.others,
        "method": section.method,
        "hold": sorted(section.hold),
    }
