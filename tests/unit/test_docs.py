"""The documents say what the program does: keys, defaults, properties, reasons, layers, fault tokens, commands and links.

What a tile says, and what the hand does, is held against docs/operator.md in `test_operator_table`.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest

from station.bench.faults import FAULT_TOKENS, USB_FAULT_TOKENS
from station.bench.scenario import EXPECTED
from station.cli import station
from station.config import Config, SlotSection
from station.model import BootEvidence
from station.properties import Gpio0, Reset, Role, SlotProperties, refusal
from station.reasons import MEANINGS
from station.recipe import RecipeFile

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
NONE = "\N{EN DASH}"
_LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^\s*```")
_OUTCOME_WORDS = re.compile(r"\b(PASS|FAIL|ERROR|ABORTED)\b")


def name_of(page: Path) -> str:
    """The page as it is called in this project."""
    return str(page.relative_to(ROOT))


def rows(page: Path, columns: int) -> Iterator[tuple[str, list[str]]]:
    """The nearest heading above and the cells of every table row with so many columns; headings of tables excluded."""
    heading, above = "", False
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            above = False
            continue
        if set(line) <= set("|- "):
            above = True
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if above and len(cells) == columns:
            yield heading, cells


def code_lines(page: Path) -> Iterator[str]:
    """Every line of the page's fenced code, and every indented line that calls the station."""
    fenced = False
    for line in page.read_text("utf-8").splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif fenced or line.startswith("    station "):
            yield line.strip()


def documented_keys(page: Path) -> dict[str, str]:
    """`section.key` -> the default's cell, from the tables of a page about a TOML file."""
    found: dict[str, str] = {}
    for heading, (key, _, default, _) in rows(page, 4):
        section = heading.strip("`[]") if heading.startswith("`[") else ""
        if key.startswith("`"):
            found[f"{section}.{key.strip('`')}".lstrip(".")] = default
    return found


def keys_of(kind: type[msgspec.Struct]) -> dict[str, object]:
    """`section.key` -> default of every key of a TOML struct; NODEFAULT where the key is required, tables left out.

    Keys of a kind of table that stands in two places are told once.
    """
    found: dict[str, object] = {}
    told: set[type] = set()
    for field in msgspec.structs.fields(kind):
        tables = [each for each in (field.type, *get_args(field.type)) if isinstance(each, type)]
        table = next((each for each in tables if issubclass(each, msgspec.Struct)), None)
        if table is not None and field.name != "slots":
            keys = {} if table in told else keys_of(table)
            told.add(table)
            found |= {f"{field.name}.{key}": value for key, value in keys.items()}
        elif field.default_factory is msgspec.NODEFAULT:
            found[field.name] = field.default
        elif field.name != "slots":
            found[field.name] = field.default_factory()
    return found


def default_in(cell: str) -> object:
    """What a default's cell says, as Python sees the TOML in it."""
    if cell == "required":
        return msgspec.NODEFAULT
    if cell == "none":
        return None
    return tomllib.loads(f"value = {cell.strip('`')}")["value"]


@pytest.mark.parametrize(("page", "kind"), [("configuration.md", Config), ("recipes.md", RecipeFile)])
def test_every_key_is_documented_with_its_default(page: str, kind: type[msgspec.Struct]) -> None:
    """The tables name every key of the file, no other, and the default that the program has."""
    documented = {key: default_in(cell) for key, cell in documented_keys(DOCS / page).items()}
    real = {key: list(default) if isinstance(default, tuple) else default for key, default in keys_of(kind).items()}
    assert documented == real


def test_the_slot_map_is_documented() -> None:
    """`[slots]`, the one section without keys of its own, has its place in the configuration's document."""
    headings = {heading for heading, _ in rows(DOCS / "configuration.md", 4)}
    assert {heading.strip("`[]") for heading in headings} == {field.name for field in msgspec.structs.fields(Config)}


def test_every_key_of_a_slots_table_is_documented() -> None:
    """A slot that is more than a place has the keys that the page names, and no other."""
    named = [re.findall(_SPAN, cells[0]) for _, cells in rows(DOCS / "configuration.md", 3) if cells[0][:1] == "`"]
    keys = [key for row in named for key in row if " = " not in key and key.isidentifier()]
    assert keys == [field.name for field in msgspec.structs.fields(SlotSection)]


def test_every_combination_that_is_refused_is_documented() -> None:
    """The page names the pairs of properties that make no sense, all of them and no other."""
    documented: list[set[str]] = []
    for _, (combination, _reason) in rows(DOCS / "configuration.md", 2):
        settings: list[str] = []
        for span in _SPAN.findall(combination):
            settings.append(span if " = " in span else f"{settings[-1].partition(' = ')[0]} = {span}")
        documented += [{settings[0], other} for other in settings[1:]]
    refused = []
    for reset, gpio0, role in itertools.product((None, *Reset), Gpio0, Role):
        written = {f'reset = "{reset}"', f'gpio0 = "{gpio0}"', f'role = "{role}"'}
        fitting = [pair for pair in documented if pair <= written]
        assert bool(fitting) == bool(refusal(SlotProperties(reset=reset, gpio0=gpio0, role=role))), written
        refused += fitting
    assert all(pair in refused for pair in documented)


def test_every_kind_of_programmer_is_in_the_readme() -> None:
    """Each way of reset and GPIO0 that makes sense has one line, with the boot evidence that it can give."""
    seen = []
    for _, (reset, gpio0, _, _, evidence) in rows(ROOT / "README.md", 5):
        possible: set[BootEvidence] = set()
        for way in reset.split(" or "):
            kind = SlotProperties(reset=Reset(way), gpio0=Gpio0(gpio0), role=Role.INSPECT)
            assert refusal(kind) == ""
            seen.append((kind.reset, kind.gpio0))
            if kind.gpio0 is not Gpio0.NEVER_LOW and not kind.starts_firmware_by_lines:
                possible.add(BootEvidence.SOFT)
            if kind.gpio0 is not Gpio0.ALWAYS_LOW:
                possible.add(BootEvidence.RESET_LINE if kind.may_reset else BootEvidence.COLD)
        assert set(_SPAN.findall(evidence)) == possible
    assert sorted(seen) == sorted(set(itertools.product(Reset, Gpio0)) - {(Reset.NONE, Gpio0.LINES)})


def test_every_reason_is_documented_as_the_program_has_it() -> None:
    """The tables have exactly the reasons of the closed list, each once, with its outcome, tray and words."""
    documented = [(cells[0].strip("`"), *cells[1:4]) for _, cells in rows(DOCS / "outcomes.md", 5)]
    real = [
        (reason.value, meaning.outcome or NONE, meaning.tray.replace("-", NONE), meaning.words)
        for reason, meaning in MEANINGS.items()
    ]
    assert sorted(documented) == sorted(real)


def test_the_layers_are_those_that_are_enforced() -> None:
    """The list in the architecture's document equals the import contract, line by line."""
    text = (DOCS / "architecture.md").read_text("utf-8")
    listed = re.search(r"^## Layers$.*?^```text$\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert listed is not None
    assert listed[1].splitlines() == layers


def test_every_fault_token_is_documented_with_what_must_come_of_it() -> None:
    """The table has exactly the tokens of the bench, and for each the outcome and reasons that the demo expects."""
    documented = {
        cells[0].strip("`"): (set(_OUTCOME_WORDS.findall(cells[3])), set(_SPAN.findall(cells[3])))
        for _, cells in rows(DOCS / "bench.md", 4)
        if cells[0].startswith("`")
    }
    assert list(documented) == list(FAULT_TOKENS)
    assert documented == {
        token: (set(expected.outcome.split("|")) if expected.outcome else set(), set(expected.reasons) - {""})
        for token, expected in EXPECTED.items()
    }


def test_every_fault_of_usb_devices_is_documented() -> None:
    """The table about USB devices has exactly the faults that only they have."""
    named = [cells[0].strip("`") for heading, cells in rows(DOCS / "bench.md", 3) if "USB" in heading]
    assert named == list(USB_FAULT_TOKENS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_in_the_documents_exists(page: Path) -> None:
    """A `station …` in code, in a block or in a sentence, names commands and options that the command line has."""
    spans = _SPAN.findall(page.read_text("utf-8"))
    wrong = []
    for line in (*code_lines(page), *spans):
        called = re.match(r"(?:\$ )?(?:sudo )?(?:\.venv/bin/)?station (.+)", line)
        if called is not None:
            wrong += [f"{line}: {problem}" for problem in problems_of_call(called[1])]
    assert wrong == []


def problems_of_call(arguments: str) -> list[str]:
    """What the command line does not know of these arguments; comments, columns of words and `[…]` are set aside."""
    words = re.split(r"\s{2,}|\s#", arguments)[0] + " " + " ".join(re.findall(r"\[(--[^\]]*)\]", arguments))
    command: click.Command = station
    problems = []
    for word in words.replace("[", " ").replace("]", " ").split():
        if word.startswith("-"):
            options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
            if word.partition("=")[0] not in options | ({"--version"} if command is station else set()):
                problems.append(f"no option {word}")
        elif isinstance(command, click.Group):
            found = command.commands.get(word)
            if found is None:
                return [*problems, f"no command {word}"]
            command = found
    return problems


def test_a_command_that_is_not_there_is_found() -> None:
    """The check above sees a wrong command, a wrong subcommand and a wrong option, and lets right ones pass."""
    assert problems_of_call("fly") == ["no command fly"]
    assert problems_of_call("lot sell --by Ada") == ["no command sell"]
    assert problems_of_call("flash --port X --turbo") == ["no option --turbo"]
    assert problems_of_call("report jobs  [--limit N]      every job") == []


def anchors_of(page: Path) -> set[str]:
    """The anchors that a page's headings get on a forge: lower case, no punctuation, dashes for blanks."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """A link inside the project names a file that is there, and an anchor that this file has."""
    dead = []
    for target in _LINK.findall(page.read_text("utf-8")):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors_of(file)):
            dead.append(target)
    assert dead == []


def test_the_index_of_decisions_is_complete() -> None:
    """The index lists every record once, under the number that its file and its title have."""
    records = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    assert re.findall(r"^\| \[(\d{4})\]\(\1-[a-z0-9-]+\.md\)", index, re.MULTILINE) == [name[:4] for name in records]
    assert [name for _, name in re.findall(r"\[(\d{4})\]\((\S+)\)", index)] == records
    for name in records:
        title = (DOCS / "decisions" / name).read_text("utf-8").splitlines()[0]
        assert title.startswith(f"# {int(name[:4])}. ")


def test_the_picture_of_the_page_is_there_and_small() -> None:
    """The README shows a picture of the operator's page: a PNG of 1600 by 900 below 200 KB."""
    picture = (DOCS / "operator-page.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(picture[16:20], "big"), int.from_bytes(picture[20:24], "big")) == (1600, 900)
    assert len(picture) < 200_000
