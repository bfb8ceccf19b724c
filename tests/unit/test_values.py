"""Tables of values are read strictly, as spreadsheets write them, and no refusal repeats what stands in a field."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.errors import ConfigurationError
from station.values import LONGEST_VALUE, MOST_BYTES, load_values, parse_values

MAC = "5c:cf:7f:dd:c1:42"
FIELDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(str.lstrip)


@given(rows=st.lists(st.tuples(FIELDS.filter(bool), FIELDS, FIELDS), max_size=8))
def test_what_a_spreadsheet_writes_is_what_is_read(rows: list[tuple[str, str, str]]) -> None:
    """Quotes, separators and any letters inside fields come back as they were, with a mark of the byte order or without."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("a", "b", "c"), *rows])
    for start in ("", "\ufeff"):
        table = parse_values((start + text.getvalue()).encode(), "t.csv")
        assert table.columns == ("a", "b", "c")
        assert table.rows == tuple(rows)


@pytest.mark.parametrize(
    "raw",
    [
        b"mac,name\r\n5c:cf:7f:dd:c1:42,one\r\n",
        b"mac;name\n5c:cf:7f:dd:c1:42;one\n",
        b"mac\tname\n5c:cf:7f:dd:c1:42\tone",
    ],
)
def test_commas_semicolons_and_tabs_are_understood(raw: bytes) -> None:
    """What a German spreadsheet calls CSV is read as well; empty lines say nothing."""
    table = parse_values(raw + b"\n\n", "t.csv")
    assert table.rows == ((MAC, "one"),)
    assert table.names(0) == {"mac": MAC, "name": "one"}


@pytest.mark.parametrize(
    "written", ["5c:cf:7f:dd:c1:42", "5C-CF-7F-DD-C1-42", "5ccf7fddc142", " 5CCF.7FDD.C142 ", "5c cf 7f dd c1 42"]
)
def test_a_board_is_found_by_its_mac_however_it_is_written(written: str) -> None:
    """Supplier lists write MACs in many ways; all of them mean the same board, and another one has no row."""
    table = parse_values(f"name,mac\nother,18:fe:34:00:00:01\none,{written}\n".encode(), "t.csv")
    assert table.row_of_mac(MAC) == 1
    assert table.row_of_mac("5c:cf:7f:dd:c1:43") is None


@pytest.mark.parametrize("written", ["0x00ddc142", "00DDC142", "ddc142", "0xddc142"])
def test_a_board_is_found_by_its_chip_id(written: str) -> None:
    """With or without prefix and leading zeros."""
    table = parse_values(f"chip_id,name\n{written},one\n".encode(), "t.csv")
    assert table.row_of_chip_id(MAC) == 0


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "it is empty"),
        (b"a,b\n1\n", "line 2 has 1 fields, the first line 2"),
        (b"a,b\n1,2\n\n1,2,SECRET\n", "line 4 has 3 fields"),
        (b"a,a\n1,2\n", "column 2 is called as column 1 is"),
        (b"a,b c\n1,2\n", "column 2 has no usable name"),
        (b"a,\n1,2\n", "column 2 has no usable name"),
        (b"a,b\n\xff,SECRET\n", "not UTF-8 text (byte 4)"),
        (b"a,b\n\0,SECRET\n", "it holds a NUL byte"),
        (b'a,b\n"SECRET,2\n', "line 2: unexpected end of data"),
        (b"a,b\n1," + b"x" * (LONGEST_VALUE + 1) + b"\n", "line 2: a field has more than"),
        (b"a" * (MOST_BYTES + 1), "it has more than 16 MiB"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_whole(raw: bytes, problem: str) -> None:
    """The refusal names file and line, and never what stands in a field."""
    with pytest.raises(ConfigurationError) as refused:
        parse_values(raw, "t.csv")
    assert problem in str(refused.value)
    assert "t.csv" in str(refused.value)
    assert "SECRET" not in str(refused.value)


def test_a_board_that_is_there_twice_is_refused_for_everybody() -> None:
    """Two rows for one MAC, written differently: nobody can know which one is meant, so no board gets any."""
    table = parse_values(f"mac,name\n{MAC},one\n5CCF7FDDC142,two\n".encode(), "t.csv")
    with pytest.raises(ConfigurationError, match="line 3: mac is that of line 2"):
        table.row_of_mac("18:fe:34:00:00:01")
    with pytest.raises(ConfigurationError, match="line 2: mac is no mac"):
        parse_values(b"mac\n12:34\n", "t.csv").row_of_mac(MAC)
    with pytest.raises(ConfigurationError, match="none of its 1 columns is called 'mac'"):
        parse_values(b"name\none\n", "t.csv").row_of_mac(MAC)


def test_rows_are_called_by_their_first_public_column() -> None:
    """Each row needs a name of its own that may be seen: by it the station knows a row again."""
    table = parse_values(b"key,label\nhidden one,A\nhidden two,B\n", "t.csv")
    assert table.row_names(["key"]) == ("A", "B")
    with pytest.raises(ConfigurationError, match="line 3: label is that of line 2"):
        parse_values(b"label,key\nA,hidden one\nA,hidden two\n", "t.csv").row_names(["key"])
    with pytest.raises(ConfigurationError, match="line 2: label is empty"):
        parse_values(b"label,key\n,hidden\n", "t.csv").row_names(["key"])
    with pytest.raises(ConfigurationError, match="all of its columns are secret"):
        parse_values(b"key\nhidden\n", "t.csv").row_names(["key"])


def test_a_secret_that_cannot_be_kept_refuses_the_table() -> None:
    """A short secret would be all over the records: the line is named, the secret is not."""
    table = parse_values(b"mac,key\n1,long enough\n2,abc\n", "t.csv")
    with pytest.raises(ConfigurationError) as refused:
        table.check_secrets(["key"])
    assert "line 3: the secret key has 3 characters" in str(refused.value)
    assert "abc" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="none of its 2 columns is called 'token'"):
        table.check_secrets(["token"])


def test_a_table_that_was_changed_is_read_again(tmp_path: Path) -> None:
    """Rows that a person appends while the station runs are there for the next board; a missing file says where to put it."""
    file = tmp_path / "t.csv"
    file.write_text("label\nA\n")
    assert load_values(file).rows == (("A",),)
    assert load_values(file) is load_values(file)
    file.write_text("label\nA\nB\n")
    os.utime(file, ns=(1, 1))
    assert load_values(file).rows == (("A",), ("B",))
    with pytest.raises(ConfigurationError, match=r"cannot be read \(No such file or directory\)"):
        load_values(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    "text", ["sensor1,hunterGreen77\nsensor2,hunterGreen78\n", "hunterGreen77,hunterGreen77\n1,2\n"]
)
def test_a_table_without_a_first_line_of_names_does_not_tell_its_first_row(text: str) -> None:
    """Somebody forgot the names of the columns: what stands there instead may be secret, and no refusal repeats it."""
    with pytest.raises(ConfigurationError) as refused:
        parse_values(text.encode(), "t.csv").column("token")
    assert "Green" not in str(refused.value)
