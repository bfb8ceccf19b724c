"""What stands on a board's label, as ZPL II: our own few lines, or a person's template. Pure.

`zpl_for` returns the bytes of exactly one label, from `^XA` to `^XZ`. Whatever a board, a table or a person wrote gets into
a field only as hex escapes (`^FH`) unless it is a letter, digit or harmless sign, so that no value can hold a command of the
printer. Sources: Zebra, ZPL II Programming Guide (^BQ, ^CI, ^FD, ^FH).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from station.config import LabelSection, parse_listen
from station.errors import ConfigurationError
from station.recipe import fill, names_in

NAMES = ("mac", "mac_plain", "chip_id", "serial", "product", "bench", "slot", "url", "attempt")
"""What a template may ask for, besides `values.COLUMN`."""
STRANGER = "No record knows this board."
"""What the page says of a board that nobody made here."""
EVERYWHERE = ("0.0.0.0", "::")
LONGEST_VALUE = 100
_HARMLESS = re.compile(r"[A-Za-z0-9 .:/+()#=-]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MARGIN_MM = 1.5
_QR_MODULES = 33
"""Version 4, error correction M: 62 bytes. A longer address makes it larger, a shorter one smaller."""
_QR_BYTES = 62
_WIDTH_OF_A_LETTER = 0.6
"""Of font 0, as a share of its width parameter, on the safe side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelText:
    """What a label says."""

    mac: str
    chip_id: str
    """As people write it: `0x00ddc142`."""
    product: str
    bench: str
    slot: str
    url: str
    """Address of the board's page."""
    serial: str = ""
    attempt: int = 1
    """1 for the label of the PASS, 2 for the first one that was asked for by hand."""
    values: tuple[tuple[str, str], ...] = ()
    """Column and value of what the board was given besides."""


def board_url(section: LabelSection, listen: str, bench: str, mac: str) -> str:
    """Return the address of the page of a board, as its QR code says it.

    Without `label.url` it is that of `label.listen`, with the name `bench` where that listens everywhere; without either
    the operator's page, which only this machine can open.
    """
    base = section.url.rstrip("/")
    if not base:
        host, port = parse_listen(section.listen or listen)
        host = bench if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        base = f"http://{host}:{port}"
    return f"{base}/board/{mac.replace(':', '')}"


def zpl_for(text: LabelText, section: LabelSection, template: bytes = b"") -> bytes:
    """Return one label; with a template that one filled in, else our own."""
    if template:
        return fill(template, {name: _escaped(value) for name, value in _names(text, template).items()})
    dots_mm = {152: 6, 203: 8, 300: 12, 600: 24}[section.dpi]
    width, height = (round(side * dots_mm) for side in section.size_mm)
    margin = round(_MARGIN_MM * dots_mm)
    inner = height - 2 * margin
    modules = _QR_MODULES if len(text.url) <= _QR_BYTES else _QR_MODULES + 12
    dot = max(1, min(10, inner // modules, (width // 2) // modules))
    left = 2 * margin + dot * modules
    lines = [
        "^XA",
        f"^CI28^PW{width}^LL{height}^LH0,0^PQ1",
        f"^FO{margin},{margin}^BQN,2,{dot}^FH^FDMA,{_escaped(text.url)}^FS",
    ]
    # The slot takes a third of the height and the bench a fifth: a label has to find back to where it was made.
    said = [(text.slot, 0.34), (text.bench, 0.2), (text.product, 0.11), (text.serial, 0.11), (text.mac, 0.11)]
    top = margin
    for words, share in (*said, (text.chip_id, 0.11)):
        if words:
            letter = max(8, round(inner * share))
            lines.append(f"^FO{left},{top}{_font(words, letter, width - margin - left)}^FH^FD{_escaped(words)}^FS")
            top += letter
    return "\n".join([*lines, "^XZ\n"]).encode("ascii")


def load_template(section: LabelSection, *, file: str) -> bytes:
    """Return the template, empty where there is none; raises `ConfigurationError` for one that cannot be a label."""
    if not section.template:
        return b""
    try:
        template = Path(section.template).read_bytes()
    except OSError as error:
        problem, fix = f"{section.template} cannot be read ({error.strerror})", "name a file of ZPL, or leave it out"
        raise ConfigurationError(file=file, key="label.template", problem=problem, fix=fix) from None
    strangers = [name for name in sorted(names_in(template)) if name not in NAMES and not name.startswith("values.")]
    if strangers:
        problem, fix = f"nobody knows ${{{strangers[0]}}}", f"it may ask for {', '.join(NAMES)}, values.COLUMN"
        raise ConfigurationError(file=section.template, problem=problem, fix=fix)
    if template.count(b"^XA") != 1 or template.count(b"^XZ") != 1:
        fix = "begin it with ^XA and end it with ^XZ, each once, and write ^FH before every ^FD with a ${name}"
        raise ConfigurationError(file=section.template, problem="it is not one label of ZPL", fix=fix)
    return template


def _names(text: LabelText, template: bytes) -> dict[str, str]:
    """Every name of the template and its value; a column that this board does not have is empty."""
    known: Mapping[str, str] = {
        **{name: str(getattr(text, name)) for name in NAMES if name != "mac_plain"},
        "mac_plain": text.mac.replace(":", ""),
        **{f"values.{column}": value for column, value in text.values},
    }
    return {name: known.get(name, "") for name in names_in(template)}


def _escaped(value: str) -> str:
    """A value as it may stand behind `^FH^FD`: UTF-8, every byte that is not harmless as `_XX`."""
    clean = _UNPRINTABLE.sub("?", value[:LONGEST_VALUE])
    return "".join(
        letter if _HARMLESS.fullmatch(letter) else "".join(f"_{byte:02X}" for byte in letter.encode("utf-8", "replace"))
        for letter in clean
    )


def _font(words: str, height: int, room: int) -> str:
    """Font 0 in this height, as narrow as the words need it."""
    width = min(height, int(room / (_WIDTH_OF_A_LETTER * len(words[:LONGEST_VALUE]))))
    return f"^A0N,{height},{max(6, width)}"
