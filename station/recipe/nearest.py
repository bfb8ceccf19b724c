"""The nearest name to a key that nobody knows, found in the structs that say what a TOML file may hold.

Serves every TOML file of the station. Promises to name only keys that really stand at that place, or the one section in
which a key of that very name does. Reads no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

import msgspec
from msgspec import inspect

from station.errors import ConfigurationError

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[[^\]]*\]")


def refused(file: str, error: msgspec.ValidationError, kind: type, fix: str) -> ConfigurationError:
    """Return what a person reads of a TOML value that does not fit `kind`: the key's whole path, and the nearest name."""
    message, _, where = str(error).partition(" - at `$")
    where = where.removesuffix("`").lstrip(".")
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is None:
        return ConfigurationError(file=file, key=where, problem=message, fix=fix)
    name = unknown[1]
    problem = f"unknown key `{name}`{suggestion(name, kind, where)}"
    return ConfigurationError(file=file, key=f"{where}.{name}".lstrip("."), problem=problem, fix=fix)


def suggestion(name: str, kind: type, where: str) -> str:
    """Return `, did you mean …?` for a key unknown at `where` (`flash`, `check[0]`) of a file that is a `kind`, or nothing."""
    root = inspect.type_info(kind)
    here = _keys(_at(root, where))
    near = get_close_matches(name, here, n=1)
    if not near:
        homes = sorted(f"{section}.{name}" for section, keys in _sections(root) if name in keys)
        near = homes[:1]
    return f", did you mean `{near[0]}`?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean …?` with the nearest of `known`, or an empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f", did you mean `{near[0]}`?" if near else ""


def _at(root: inspect.Type, where: str) -> list[inspect.Type]:
    """The types that may stand at this path."""
    found = _plain(root)
    for step in _STEP.finditer("." + where if where and not where.startswith("[") else where):
        found = [inner for each in found for inner in _inside(each, step[1])]
    return found


def _inside(kind: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """What stands under a key, or (None) in any place of a list or table."""
    match kind:
        case inspect.StructType(fields=fields):
            yield from (inner for field in fields if field.encode_name == name for inner in _plain(field.type))
        case inspect.DictType(value_type=inner) | inspect.VarTupleType(item_type=inner):
            yield from _plain(inner)


def _plain(kind: inspect.Type) -> list[inspect.Type]:
    """A type, or the types of a union."""
    return [inner for each in kind.types for inner in _plain(each)] if isinstance(kind, inspect.UnionType) else [kind]


def _keys(kinds: Iterable[inspect.Type]) -> list[str]:
    return [field.encode_name for kind in kinds if isinstance(kind, inspect.StructType) for field in kind.fields]


def _sections(root: inspect.Type) -> Iterator[tuple[str, list[str]]]:
    """Every section at the top with its keys."""
    sections: Mapping[str, inspect.Type] = (
        {field.encode_name: field.type for field in root.fields} if isinstance(root, inspect.StructType) else {}
    )
    for name, kind in sections.items():
        yield name, _keys(inner for each in _plain(kind) for inner in (each, *_inside(each, None)))
