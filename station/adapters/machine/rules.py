"""The udev rules that are in force, and what they say about programmers: brltty's claims, and the station's own rule.

A file counts by its name: the one in the first directory hides those of the same name in the others, and a link to /dev/null
or an empty file hides them without saying anything (udev(7)). Raises OSError for a directory or file that may not be read.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RULE_DIRECTORIES = (
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
)
OUR_RULE = "70-flashing-station.rules"
OUR_TAG = "flashing-station"
_TERM = re.compile(r'([A-Z_]+)(?:\{([^}]*)\})?\s*(==|!=|\+=|-=|:=|=)\s*"((?:[^"\\]|\\.)*)"')
_ANY_VERSION = "262"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A rule that gives a programmer to brltty."""

    file: str
    """As it stands on the machine, e.g. `/usr/lib/udev/rules.d/85-brltty.rules`."""
    usb_id: str
    behind: str
    """USB id of the hub behind which it claims only; empty: anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OurRule:
    """What the station's rule, as it is in force, does."""

    file: str
    tagged: frozenset[str]
    """USB ids whose ttys are ours: they get group and mode."""
    kept_from_modemmanager: frozenset[str]
    """USB ids that ModemManager is told to leave alone."""
    group: str
    """The group that the ttys get; empty when it gives none."""


@dataclass(frozen=True, slots=True)
class _Term:
    key: str
    attribute: str
    operator: str
    value: str

    def alternatives(self) -> list[str]:
        return self.value.split("|")


def brltty_claims(root: Path, usb_ids: Sequence[str]) -> tuple[Claim, ...]:
    """Return every rule in force that gives an adapter with one of `usb_ids` to brltty.

    Ubuntu 22.04 claims every CH340; brltty 6.6 (Ubuntu 24.04) only one behind a 1a40:0101 hub, the commonest cheap one.
    """
    found = []
    for file in files_in_force(root):
        text = file.read_text("utf-8", errors="replace")
        if "brltty" in text.lower():
            found += [
                Claim(file=_shown(root, file), usb_id=usb_id, behind=behind)
                for terms in _rules(text)
                for usb_id, behind in _claimed(terms, usb_ids)
            ]
    return tuple(found)


def our_rule(root: Path) -> OurRule | None:
    """Return what the station's rule does as it is in force; None where it is missing or masked."""
    file = next((file for file in files_in_force(root) if file.name == OUR_RULE), None)
    if file is None:
        return None
    tagged: set[str] = set()
    kept: set[str] = set()
    group = ""
    for terms in _rules(file.read_text("utf-8", errors="replace")):
        ids = _matched_ids(terms)
        for term in terms:
            match term:
                case _Term("TAG", "", "+=" | "=", value) if value == OUR_TAG:
                    tagged |= ids
                case _Term("ENV", "ID_MM_DEVICE_IGNORE", "=" | ":=", "1"):
                    kept |= ids
                case _Term("GROUP", "", "=" | ":=", value):
                    group = value
    return OurRule(
        file=_shown(root, file), tagged=frozenset(tagged), kept_from_modemmanager=frozenset(kept), group=group
    )


def files_in_force(root: Path) -> tuple[Path, ...]:
    """Return the rule files that udev reads, in its order."""
    named: dict[str, Path] = {}
    for directory in RULE_DIRECTORIES:
        try:
            files = list((root / directory).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        for file in files:
            if file.suffix == ".rules":
                named.setdefault(file.name, file)
    return tuple(file for _, file in sorted(named.items()) if not _masks(file))


def _masks(file: Path) -> bool:
    if file.is_symlink() and str(file.readlink()) == "/dev/null":
        return True
    return file.exists() and file.stat().st_size == 0


def _rules(text: str) -> Iterator[list[_Term]]:
    """The terms of each rule: lines that end in a backslash go on, lines that begin with # are comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if not line.lstrip().startswith("#"):
            terms = [_Term(key, attribute, operator, value) for key, attribute, operator, value in _TERM.findall(line)]
            if terms:
                yield terms


def _claimed(terms: list[_Term], usb_ids: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The (id, hub) that one rule gives to brltty."""
    gives = any(
        term.operator in {"=", "+=", ":="} and "brltty" in f"{term.attribute} {term.value}".lower() for term in terms
    )
    if not gives:
        return
    products = next((term for term in terms if term.attribute == "PRODUCT" and term.operator == "=="), None)
    if products is None:
        yield from ((usb_id, "") for usb_id in usb_ids if usb_id in _matched_ids(terms))
        return
    behind = "".join(sorted(_matched_ids(terms))[:1])
    for usb_id in usb_ids:
        vendor, product = (int(part, 16) for part in usb_id.split(":"))
        written = f"{vendor:x}/{product:x}/{_ANY_VERSION}"  # as the kernel writes PRODUCT, without leading zeros
        if any(fnmatch.fnmatchcase(written, pattern.lower()) for pattern in products.alternatives()):
            yield usb_id, behind


def _matched_ids(terms: list[_Term]) -> set[str]:
    """The USB ids that a rule demands by idVendor and idProduct, of the device or of a parent."""
    demanded: dict[str, list[str]] = {"idVendor": [], "idProduct": []}
    for term in terms:
        if term.key in {"ATTR", "ATTRS"} and term.operator == "==" and term.attribute in demanded:
            demanded[term.attribute] += term.alternatives()
    return {f"{vendor}:{product}".lower() for vendor in demanded["idVendor"] for product in demanded["idProduct"]}


def _shown(root: Path, file: Path) -> str:
    return f"/{file.relative_to(root)}"
