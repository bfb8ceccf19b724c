"""Templates: every place is filled or refused, nothing else of a file changes, and no value can break out of its quotes."""

from __future__ import annotations

import ast
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.recipe.template import fill, fill_for_parsing, names_in, problem_in

NAMES = {"mac": "5c:cf:7f:dd:c1:42", "serial": "SN7", "secret.wifi": 'a"b\\c', "values.Ort": "Köln"}


def test_places_are_filled_and_nothing_else_changes() -> None:
    """Names, filters and the doubled dollar are understood; lone dollars and braces stay as they are."""
    template = b'{"m": "${mac}", k: ${secret.wifi|quoted}} $ $x $$ $${mac} {mac} ${serial}${serial} ${values.Ort}\r\n'
    assert fill(template, NAMES).decode() == (
        '{"m": "5c:cf:7f:dd:c1:42", k: "a\\"b\\\\c"} $ $x $ ${mac} {mac} SN7SN7 Köln\r\n'
    )
    assert names_in(template) == set(NAMES)


def test_a_value_is_never_filled_in_again() -> None:
    """What a value says is data: a place inside it stays text."""
    assert fill(b"${mac}", {"mac": "${serial} $$"}) == b"${serial} $$"


def test_a_name_without_value_stops_the_filling() -> None:
    """A file is never written with a hole in it."""
    with pytest.raises(KeyError, match="serial"):
        fill(b"${mac} ${serial}", {"mac": "x"})


@given(st.text())
def test_a_quoted_value_is_that_value_in_json_and_in_python(value: str) -> None:
    """Whatever a value is, quoted it is one string literal that reads back as it was, in both languages."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return
    filled = fill(b"${values.x|quoted}", {"values.x": value}).decode()
    assert json.loads(filled) == value
    assert ast.literal_eval(filled) == value


@given(st.binary())
def test_any_bytes_can_be_read_for_names(content: bytes) -> None:
    """No file, text or not, upsets the reader; without a dollar nothing is changed."""
    names = names_in(content)
    filled = fill(content, dict.fromkeys(names, ""))
    assert b"$" in content or filled == content


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("${mac} ${mac_plain} ${chip_id} ${secret.a-b} ${secret.wifi|quoted} $$ $${x", ""),
        ("${serial}", "${serial} needs a pool: write serial.pool"),
        ("${values.x}", "${values.x} needs a table: write values.csv"),
        ("${mca}", "${mca} is not known, did you mean ${mac}?"),
        ("${chipid|quoted}", "${chipid|quoted} is not known, did you mean ${chip_id}?"),
        ("${qqqqqqq}", "${qqqqqqq} is not known"),
        ("${mac|upper}", "${mac|upper}: the only filter is |quoted"),
        ("${mac|}", "${mac|}: the only filter is |quoted"),
        ("${}", "${} is not known"),
        ("${ mac}", "${ mac} is not known, did you mean ${mac}?"),
        ("${mac\n}", "${mac is not closed on its line; $${ stands for ${"),
        ("${secret.}", "${secret.} is not known, did you mean ${secret.NAME}?"),
        ("${secret.../x}", "${secret.../x} is not known, did you mean ${secret.NAME}?"),
    ],
)
def test_a_wrong_place_is_named(template: str, problem: str) -> None:
    """What cannot be filled in is said at the desk, with the nearest name, and not by a board."""
    assert problem_in(template.encode(), serial=False, values=False) == problem


def test_serial_and_values_are_known_where_the_recipe_has_them() -> None:
    """A pool and a table make their names known."""
    assert problem_in(b"${serial} ${values.Any Column}", serial=True, values=True) == ""
    assert problem_in(b"${values.}", serial=True, values=True) == "${values.} needs a table: write values.csv"


@given(st.lists(st.sampled_from(["mac", "serial", "mac|quoted"])), st.text(string.ascii_letters + " ='\""))
def test_filling_for_parsing_leaves_no_place(names: list[str], between: str) -> None:
    """What the parser reads holds no template any more."""
    content = between.join(f"${{{name}}}" for name in names).encode()
    assert names_in(fill_for_parsing(content)) == set()
