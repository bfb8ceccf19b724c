"""What stands on a label: its fields, and that no value can ever be a command of the printer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.config import Config, LabelSection, check_config, load_config
from station.errors import ConfigurationError
from station.labels import LONGEST_VALUE, LabelText, board_url, load_template, zpl_for
from tests.adapters.printer_rig import fields_of

TEXT = LabelText(
    mac="5c:cf:7f:dd:c1:42",
    chip_id="0x00ddc142",
    product="Lamp controller",
    bench="bench-1",
    slot="A3",
    url="http://bench-1:8081/board/5ccf7fddc142",
    serial="SN000012",
)
OURS = LabelSection()


def test_a_label_says_what_board_it_is_and_where_it_was_made() -> None:
    """Address as QR code, then slot, bench, product, serial number, MAC and chip ID; the slot largest, then the bench."""
    zpl = zpl_for(TEXT, OURS)
    assert fields_of(zpl) == [
        f"MA,{TEXT.url}",
        "A3",
        "bench-1",
        "Lamp controller",
        "SN000012",
        "5c:cf:7f:dd:c1:42",
        "0x00ddc142",
    ]
    heights = [int(height) for height in re.findall(rb"\^A0N,(\d+),", zpl)]
    assert heights[0] > heights[1] > 1.5 * max(heights[2:])
    assert b"^BQN,2," in zpl
    assert zpl.startswith(b"^XA\n")
    assert zpl.endswith(b"\n^XZ\n")


def test_a_board_without_a_serial_number_has_no_empty_line() -> None:
    """What is not there takes no room."""
    assert "" not in fields_of(zpl_for(replace(TEXT, serial=""), OURS))


@pytest.mark.parametrize("dpi", [152, 203, 300, 600])
@pytest.mark.parametrize("size_mm", [(20.0, 10.0), (50.0, 25.0), (100.0, 150.0)])
def test_everything_lies_on_the_label(dpi, size_mm) -> None:
    """On any size and resolution no field begins outside, and no line of text ends below the edge."""
    section = LabelSection(dpi=dpi, size_mm=size_mm)
    zpl = zpl_for(TEXT, section).decode()
    width, height = map(int, re.findall(r"\^PW(\d+)\^LL(\d+)", zpl)[0])
    assert (width, height) == tuple(round(side * {152: 6, 203: 8, 300: 12, 600: 24}[dpi]) for side in size_mm)
    for left, top, letter in re.findall(r"\^FO(\d+),(\d+)\^A0N,(\d+)", zpl):
        assert int(left) < width
        assert int(top) + int(letter) <= height + 8


@given(st.text(max_size=150), st.text(max_size=150))
def test_no_value_becomes_a_command(product, serial) -> None:
    """Whatever stands in a value, the label is one label with these fields, and the printer reads the value back."""
    zpl = zpl_for(replace(TEXT, product=f"x{product}", serial=f"x{serial}"), OURS)
    assert zpl.isascii()
    assert (zpl.count(b"^XA"), zpl.count(b"^XZ"), zpl.count(b"~"), zpl.count(b"^FD")) == (1, 1, 0, 7)
    shown = fields_of(zpl)[3]
    expected = re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", f"x{product}"[:LONGEST_VALUE])
    assert shown == expected.encode("utf-8", "replace").decode()


def test_a_template_takes_the_place_of_our_label(tmp_path: Path) -> None:
    """Its names are filled in, escaped like ours; a column that this board does not have is empty."""
    file = tmp_path / "label.zpl"
    file.write_bytes(b"^XA^FO1,1^A0N,9,9^FH^FD${slot} ${serial} ${values.colour}|${values.none} $$ ${mac_plain}^FS^XZ")
    section = LabelSection(template=str(file))
    text = replace(TEXT, serial="^XZ~JA", values=(("colour", "grün"),))
    zpl = zpl_for(text, section, load_template(section, file="station.toml"))
    assert fields_of(zpl) == ["A3 ^XZ~JA grün| $ 5ccf7fddc142"]
    assert zpl.count(b"^XZ") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"^XA^FH^FD${Mac}^FS^XZ", "${Mac}"),
        (b"^XA^FDx^FS", "not one label"),
        (b"^XA^XZ^XA^XZ", "not one label"),
        (None, "cannot be read"),
    ],
)
def test_a_template_that_cannot_be_a_label_is_refused(tmp_path: Path, content, said) -> None:
    """An unknown name, no end, two labels or no file: said at the start, with the name of the file."""
    file = tmp_path / "label.zpl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(said)) as refused:
        load_template(LabelSection(template=str(file)), file="station.toml")
    assert "label.zpl" in str(refused.value)


@pytest.mark.parametrize(
    ("section", "listen", "url"),
    [
        (LabelSection(url="http://shop.example/esp/"), "127.0.0.1:8080", "http://shop.example/esp/board/5ccf7fddc142"),
        (LabelSection(listen="0.0.0.0:8081"), "127.0.0.1:8080", "http://bench-1:8081/board/5ccf7fddc142"),
        (LabelSection(listen="[::]:8081"), "127.0.0.1:8080", "http://bench-1:8081/board/5ccf7fddc142"),
        (LabelSection(listen="192.168.1.5:8081"), "127.0.0.1:8080", "http://192.168.1.5:8081/board/5ccf7fddc142"),
        (LabelSection(listen="[fd00::5]:8081"), "127.0.0.1:8080", "http://[fd00::5]:8081/board/5ccf7fddc142"),
        (LabelSection(), "127.0.0.1:8080", "http://127.0.0.1:8080/board/5ccf7fddc142"),
    ],
)
def test_the_address_on_the_label_is_that_of_the_page(section, listen, url) -> None:
    """What a person wrote, else where the boards' pages are served, else the operator's page."""
    assert board_url(section, listen, "bench-1", TEXT.mac) == url


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("printer", "192.168.1.50"),
        ("printer", "tcp://"),
        ("printer", "tcp://printer:99999"),
        ("printer", "tcp://:9100"),
        ("printer", "tcp://printer:"),
        ("printer", "tcp://printer:raw"),
        ("printer", "tcp://::1"),
        ("url", "http://station:99999/esp"),
        ("url", "station:8081"),
        ("listen", "station"),
    ],
)
def test_a_printer_or_address_that_is_none_is_refused(key, value) -> None:
    """The refusal names the key and shows how it is written."""
    with pytest.raises(ConfigurationError) as refused:
        check_config(Config(label=LabelSection(**{key: value})), file="station.toml")
    assert refused.value.key == f"label.{key}"


def test_a_template_is_meant_from_where_the_configuration_stands(tmp_path: Path) -> None:
    """As every path in it."""
    file = tmp_path / "station.toml"
    file.write_text('[label]\nprinter = "/dev/usb/lp0"\ntemplate = "label.zpl"\n')
    assert load_config(file).label.template == str(tmp_path / "label.zpl")
