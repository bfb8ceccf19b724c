"""Secrets are taken out of everything in every form, are never told by an error, and lie in files that not everybody reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.errors import SecretUnusable
from station.secrets import (
    LONGEST,
    REDACTED,
    REMEMBERED,
    Secrets,
    Vault,
    read_secret,
    readable_secrets,
    secrets_directory,
)

KEY = "Gartenzwerg-im 'Regen' 7\\ß"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=6, max_size=30)


@given(before=st.binary(max_size=40), secret=WORDS, after=st.binary(max_size=40))
def test_no_form_of_a_secret_is_left_in_bytes(before: bytes, secret: str, after: bytes) -> None:
    """Plain, hex, base64 at any offset, quoted for an address, escaped as Python and JSON do: whatever stands around it."""
    raw = secret.encode()
    whole = before + raw + after
    said = [
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        raw.hex(" ").encode(),
        str(list(raw)).encode()[1:-1],
        quote(secret, safe="").encode(),
        repr(raw)[2:-1].encode(),
        json.dumps(secret).encode(),
        base64.b64encode(whole),
        base64.urlsafe_b64encode(whole),
    ]
    for each in said:
        clean = Secrets([secret]).data(before + b"|" + each + b"|" + after)
        assert REDACTED.encode() in clean
        assert each not in clean or each in before + b"|" + after
    encoded = Secrets([secret]).data(base64.b64encode(whole))
    shown = base64.b64encode(whole)
    # At the two ends at most one character holds bits of a neighbour; nothing else of the secret is there any more.
    kept = encoded.split(REDACTED.encode())
    assert sum(map(len, kept)) <= len(shown) - (len(raw) * 8 // 6 - 1)


@given(secret=WORDS, cut=st.integers(4, 100))
def test_what_a_cut_left_of_a_secret_goes_as_well(secret: str, cut: int) -> None:
    """A transcript begins and ends anywhere: the rest of a secret at its edges is taken out, from four characters on."""
    raw = secret.encode()
    if cut >= len(raw):
        return
    clean = Secrets([secret]).data(raw[-cut:] + b"\r\n\0\r\n" + raw[:cut], cut=True)
    assert clean.startswith(REDACTED.encode())
    assert clean.endswith(REDACTED.encode())
    assert raw[-cut:] not in clean
    assert raw[:cut] not in clean


def test_text_is_cleaned_like_bytes() -> None:
    """Words of a person, a traceback, a repr: the secret is gone, what stands around it stays."""
    secrets = Secrets([KEY])
    for said in (KEY, repr(KEY)[1:-1], json.dumps(KEY)[1:-1], KEY.encode().hex(), quote(KEY), quote(KEY, safe="")):
        assert secrets.text(f"OSError: {said} refused") == f"OSError: {REDACTED} refused"
    assert secrets.text("nothing of it") == "nothing of it"
    assert Secrets().text(KEY) == KEY


def test_a_secret_of_several_lines_is_one_and_each_of_its_lines_is() -> None:
    """A certificate repeated line by line, or joined to one line as a detail is, is taken out."""
    secret = "first line of it\nsecond line of it"
    clean = Secrets([secret])
    assert clean.text(f"<{secret}>") == f"<{REDACTED}>"
    assert clean.text("said: second line of it.") == f"said: {REDACTED}."
    assert clean.text("first line of it second line of it") == REDACTED


def test_a_measured_value_is_cleaned_by_what_it_reads() -> None:
    """A check that reads its own password back does not put it on record, be it a number; other numbers stay numbers."""
    secrets = Secrets(["12345678"])
    assert secrets.value("key 12345678") == f"key {REDACTED}"
    assert secrets.value(12345678) == REDACTED
    assert secrets.value(12345678.0) == REDACTED
    for value in (123456789, 0.5, True, None, float("inf"), 10**400):
        assert secrets.value(value) == value


def test_thousands_of_secrets_are_looked_for_as_they_are() -> None:
    """The secret column of a whole table is taken out, also where nobody knows whose board it was."""
    secrets = Secrets(["file secret"], many=[f"key-of-board-{number}" for number in range(5000)])
    assert secrets.text("it said key-of-board-4711!") == f"it said {REDACTED}!"
    assert secrets.data(b"it said key-of-board-4711!") == f"it said {REDACTED}!".encode()
    both = Secrets(["one of its own"]) | secrets
    assert both.text("one of its own, file secret, key-of-board-9") == f"{REDACTED}, {REDACTED}, {REDACTED}"
    longer = Secrets(["key-of-board-4711 and more"]) | secrets
    assert longer.text("key-of-board-4711 and more") == REDACTED


def test_secrets_do_not_show_themselves() -> None:
    """What a debugger, a log or a traceback prints of them says how many there are, nothing else."""
    assert repr(Secrets([KEY, "another"], many=["a third"])) == "Secrets(3)"
    assert KEY not in str(Secrets([KEY]))


def test_the_vault_takes_out_what_is_in_use_and_forgets_the_oldest() -> None:
    """The log knows the secrets of the boards that were made last; what was never kept is not changed."""
    vault = Vault()
    vault.keep(Secrets(["first of all"]))
    assert vault.text("first of all") == REDACTED
    for number in range(REMEMBERED):
        vault.keep(Secrets([f"secret {number:04}"]))
    assert vault.text("first of all") == "first of all"
    assert vault.text("secret 0000 secret 0127") == f"{REDACTED} {REDACTED}"
    assert vault.data(b"secret 0001") == REDACTED.encode()
    assert vault.value(5) == 5


def secret_file(directory: Path, name: str, content: bytes, mode: int = 0o600) -> Path:
    """A file with such content and mode."""
    file = directory / name
    file.write_bytes(content)
    file.chmod(mode)
    return directory


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_secret_is_what_its_file_says_without_the_line_end(tmp_path: Path, end: bytes, mode: int) -> None:
    """An editor's last line end is not part of the secret; owner and group may read it."""
    assert read_secret(secret_file(tmp_path, "wifi", KEY.encode() + end, mode), "wifi") == KEY


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [
        (b"long enough", 0o604, "open to everybody (mode 0604)"),
        (b"long enough", 0o660, "open to everybody (mode 0660)"),
        (b"abc", 0o600, "has 3 characters"),
        (b"", 0o600, "has 0 characters"),
        (b"x" * (LONGEST + 1), 0o600, "4 to 4096 can be kept"),
        (b"\xff\xfe long", 0o600, "is no UTF-8 text"),
        (b"nul\0inside", 0o600, "is no UTF-8 text"),
    ],
)
def test_a_secret_that_cannot_be_kept_is_refused_without_telling_it(
    tmp_path: Path, content: bytes, mode: int, problem: str
) -> None:
    """Open files, short, long and broken texts are refused; the message names the secret and never says it."""
    with pytest.raises(SecretUnusable) as refused:
        read_secret(secret_file(tmp_path, "wifi", content, mode), "wifi")
    assert problem in str(refused.value)
    assert str(refused.value).startswith("wifi ")
    assert len(content) < 4 or content.decode("latin-1")[:8] not in str(refused.value)


@pytest.mark.parametrize("name", ["../wifi", "/etc/passwd", ".hidden", "", "a/b", "x" * 61, "wi fi"])
def test_the_name_of_a_secret_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    """A recipe cannot name a file outside the directory of secrets."""
    with pytest.raises(SecretUnusable, match="is no name of a secret"):
        read_secret(tmp_path, name)


def test_a_secret_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    """Missing file and missing directory are said apart."""
    with pytest.raises(SecretUnusable, match=r"wifi cannot be read \(No such file or directory\)"):
        read_secret(tmp_path, "wifi")
    with pytest.raises(SecretUnusable, match="wifi has no place"):
        read_secret(None, "wifi")


def test_secrets_come_from_the_directory_or_from_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is configured goes before the credentials of the unit; without either there is no place."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert secrets_directory("") is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets_directory("") == tmp_path
    assert secrets_directory("/etc/station/secrets") == Path("/etc/station/secrets")


def test_all_that_can_be_read_is_learnt(tmp_path: Path) -> None:
    """What is refused or no secret is left out, and a directory that is not there holds none."""
    secret_file(tmp_path, "a", b"first secret\n")
    secret_file(tmp_path, "b", b"second secret\n")
    secret_file(tmp_path, "open", b"third secret\n", 0o644)
    (tmp_path / "directory").mkdir()
    assert list(readable_secrets(tmp_path)) == ["first secret", "second secret"]
    assert list(readable_secrets(tmp_path / "nowhere")) == []
    assert list(readable_secrets(None)) == []
