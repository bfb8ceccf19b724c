"""The programs of a recipe, read before the first board: they must compile, and all that they import must be there.

Each `.py` of the tree and of the recipe's own checks is parsed, given to MicroPython's own compiler where that is installed,
and its imports are held against the modules of every image that the recipe names. Nothing is run. Every refusal names the
file and the line.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import msgspec

from station.errors import ConfigurationError
from station.recipe.compiling import compile_source, is_installed, load_problem
from station.recipe.imports import Available, defines, missing_imports, modules_in, package_of, parse, touches_path
from station.recipe.nearest import nearest
from station.recipe.plan import Image, OwnCheckCode, SourceFile
from station.recipe.template import fill_for_parsing, problem_in
from station.recipe.text import OwnCheck, RecipeFile, read_file
from station.recipe.tree import Tree, inside

CHECK_CAP_BYTES = 8 << 10
FUNCTION = "check"
_ODD = re.compile(rb"[^ -~\n]")


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program that runs on the board."""

    file: str
    """Where it lies here."""
    name: str
    source: bytes
    """With something in the place of every template."""
    package: str | None = None
    """Of a program of the tree: the directory on the board that it comes to, as a module; None for others."""


def read_checks(recipe: Path, checks: Iterable[OwnCheck]) -> tuple[OwnCheckCode, ...]:
    """Read the recipe's own checks; raises `ConfigurationError`."""
    return tuple(_read_check(recipe, f"check[{number}]", check) for number, check in enumerate(checks))


def source_files(tree: Tree) -> tuple[SourceFile, ...]:
    """Return the files of the tree as they come to the board, compiled where that is asked; raises `ConfigurationError`."""
    return tuple(
        SourceFile(
            path=file.path,
            content=compile_source(file.source, file.content, file=f"{tree.root}/{file.source}")
            if file.is_compiled
            else file.content,
            fill_in=file.fill_in,
        )
        for file in tree.files
    )


def check_programs(
    recipe: Path,
    parsed: RecipeFile,
    tree: Tree,
    *,
    files: Iterable[SourceFile],
    own: Iterable[OwnCheckCode],
    images: Iterable[Image],
) -> None:
    """Raise `ConfigurationError` for the first template or program of the recipe that cannot work on all its images."""
    for file in tree.files:
        if file.fill_in:
            _check_template(f"{tree.root}/{file.source}", file.content, parsed)
    images = tuple(images)
    _check_loads(tree, files, images)
    programs = [
        Program(
            file=f"{tree.root}/{file.source}",
            name=file.source,
            source=fill_for_parsing(file.content) if file.fill_in else file.content,
            package=package_of(file.path),
        )
        for file in tree.files
        if file.source.endswith(".py")
    ]
    directory = recipe.resolve().parent
    programs += [
        Program(file=str(directory / check.file), name=check.file, source=code.source.encode())
        for check, code in zip(parsed.check, own, strict=True)
    ]
    read = [(program, _parsed(program)) for program in programs]
    of_tree = modules_in((file.path for file in tree.files), anywhere=any(touches_path(tree) for _, tree in read))
    for image in images:
        if image.modules is not None:
            for program, parsed_program in read:
                available = Available(firmware=image.modules, tree=of_tree, package=program.package)
                _check_imports(program, parsed_program, available, image)


def _read_check(recipe: Path, key: str, check: OwnCheck) -> OwnCheckCode:
    path = inside(recipe, f"{key}.file", check.file)
    source = read_file(path, what="check", named_in=f"{recipe}: {key}.file")
    problem = _check_problem(path, check, source)
    if problem:
        raise ConfigurationError(
            file=str(path), problem=problem, fix="write a short program with def check() that returns a dict"
        )
    return OwnCheckCode(
        name=check.name,
        source=source.decode("ascii"),
        timeout_s=check.timeout_s,
        limits=check.limits,
        units=check.units,
    )


def _check_problem(path: Path, check: OwnCheck, source: bytes) -> str:
    """Return what makes this no check, or an empty string; its text goes through the prompt byte by byte."""
    if len(source) > CHECK_CAP_BYTES:
        return f"{len(source)} bytes long, a check has at most {CHECK_CAP_BYTES}"
    odd = _ODD.search(source)
    if odd:
        return f"byte {odd.start()} is {odd[0]!r}: a check is printable ASCII with plain line ends, and no tabs"
    if not defines(_parsed(Program(file=str(path), name=check.file, source=source)), FUNCTION):
        return f"it defines no function {FUNCTION}()"
    return ""


def _check_template(file: str, content: bytes, parsed: RecipeFile) -> None:
    problem = problem_in(content, serial=bool(parsed.serial.pool), values=bool(parsed.values.csv))
    if problem:
        raise ConfigurationError(file=file, problem=problem, fix="see docs/recipes.md for what can be filled in")


def _check_loads(tree: Tree, files: Iterable[SourceFile], images: Iterable[Image]) -> None:
    """Every `.mpy` of the tree, ready made or made here, must be loaded by the firmware of every image."""
    for source, file in zip(tree.files, files, strict=True):
        for image in images:
            problem = load_problem(file.content, image.version) if file.path.endswith(".mpy") else ""
            if problem:
                raise ConfigurationError(
                    file=f"{tree.root}/{source.source}",
                    key="files.compile" if source.is_compiled else "",
                    problem=problem,
                    fix="upload the source instead, or take a newer firmware",
                )


def _parsed(program: Program) -> ast.Module:
    """The program; raises `ConfigurationError` where Python's parser, or MicroPython's compiler, makes nothing of it."""
    try:
        with warnings.catch_warnings():
            # What only a newer CPython dislikes is no matter of the board's.
            warnings.simplefilter("ignore")
            parsed = parse(program.source)
    except ValueError as error:
        raise ConfigurationError(
            file=program.file, problem=str(error), fix="write what MicroPython understands"
        ) from None
    if is_installed():
        compile_source(program.name, program.source, file=program.file)
    return parsed


def _check_imports(program: Program, parsed: ast.Module, available: Available, image: Image) -> None:
    public = sorted(name for name in (*available.firmware, *available.tree) if not name.startswith("_"))
    for module, line in missing_imports(parsed, available):
        raise ConfigurationError(
            file=program.file,
            problem=f"line {line} imports {module}, which {image.machine or 'the image'} has not"
            f"{nearest(module, public)}",
            fix=f"put {module} into the tree, take another build, import it inside try … except ImportError, or say in"
            " modules of the image what it has",
        )
