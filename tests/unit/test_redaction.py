"""Secrets are taken out of text whatever form they have, JSON stays JSON, and what is no secret stays."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import support
from station.bundle import freeze
from station.bundle.archive import SUFFIX
from station.config import Config, WorkSection
from station.recipe import load_recipe
from station.secrets import REDACTED, SERVICE_CREDENTIALS, Secrets
from station.support.redaction import Redaction
from tests.unit.small_image import make_small_image, write_recipe

PLAIN = Redaction()
KEYS = (
    "password",
    "wifi_password",
    "PASSWD",
    "client-secret",
    "api.token",
    "psk",
    "wpa_psk2",
    "passphrase",
    "credentials",
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "written",
    [
        '{key} = "s3cr3t value"',
        "{key} = 's3cr3t value'",
        "{key}=s3cr3t",
        "{key}: s3cr3t",
        '{{"{key}": "s3cr3t", "next": 1}}',
        '{{"{key}":"a \\"s3cr3t\\" b"}}',
        '{{"event": "said {key}=\\"s3cr3t x\\" loud"}}',
        '{{"event": "{{\\"{key}\\": \\"s3cr3t\\"}}"}}',
        '{key} = ["s3cr3t", "s3cr3t"]',
        '{key} = """\na\ns3cr3t\n"""',
        "tool --{key} s3cr3t --port 1",
        "# {key} = s3cr3t",
        "http://host/?{key}=s3cr3t&x=1",
        'cut off: {key}="s3cr3t',
        '{{"cut": "off {key}=\\"s3cr3t"}}',
    ],
)
def test_a_value_beside_its_name_is_taken_out(key: str, written: str) -> None:
    """Quotes, JSON, JSON within JSON, options, comments and queries: the value is gone, its name stays."""
    said = PLAIN.text(written.format(key=key))
    assert "s3cr3t" not in said
    assert key in said
    assert REDACTED in said
    assert PLAIN.text(said) == said


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://station:s3cr3t@db.example/station",
        "postgresql://:s3cr3t@db/station",
        "https://ada:s3c@r3t/s3cr3t@host:8/path",
        "mqtt://ada:s3cr3t%21@host",
        "Authorization: Bearer s3cr3tAAAA",
    ],
)
def test_a_password_in_an_address_is_taken_out(written: str) -> None:
    """Whatever stands between the user and the last @ of an address is gone."""
    assert "s3cr3t" not in PLAIN.text(written)


@pytest.mark.parametrize(
    "written",
    [
        "job.ended slot=A1 outcome=PASS",
        "sqlite:////var/lib/station/station.db",
        "http://127.0.0.1:8080/metrics",
        "at 12:30:11 ada@bench said: hello",
        '{"slot": "A1", "mac": "5c:cf:7f:00:00:01"}',
    ],
)
def test_what_is_no_secret_stays(written: str) -> None:
    """Addresses without a password, times, MACs and ordinary keys are what one wants to read."""
    assert PLAIN.text(written) == written


def test_a_learnt_value_is_taken_out_without_its_name() -> None:
    """A value of the settings is gone wherever it turns up, JSON-escaped and percent-encoded too."""
    value = 'hunter2 "&/x'
    redaction = Redaction(f"[wifi]\npsk = '{value}'\n", '{"deep": {"tokens": ["abcd-1234"], "n": {"secret": 987654}}}')
    said = redaction.text(f"{value} | {json.dumps(value)} | {quote(value, safe='')} | abcd-1234 | 987654")
    assert said == f'{REDACTED} | "{REDACTED}" | {REDACTED} | {REDACTED} | {REDACTED}'


def test_a_broken_file_of_settings_still_teaches() -> None:
    """A configuration that is no TOML is just the one that comes with a bug report."""
    redaction = Redaction('[station\nwifi_password = "correct horse"\nurl = "db://ada:p%40ss@x"\n')
    said = redaction.text("the board says correct horse, p@ss and p%40ss")
    assert said == f"the board says {REDACTED}, {REDACTED} and {REDACTED}"


def test_short_values_are_not_hunted_for() -> None:
    """A secret of three letters would take half a report with it; beside its name it goes all the same."""
    redaction = Redaction('psk = "abc"')
    assert redaction.text("abcdef psk=abc") == f"abcdef psk={REDACTED}"


def test_data_is_redacted_by_the_names_of_its_keys() -> None:
    """Whatever is below a secret's name goes, numbers and lists too; the rest keeps its types."""
    data = {"a": 1, "tokens": [1, {"b": 2}], "x": [{"my_secret": 5}, "psk=abcd", None, 1.5, True]}
    assert PLAIN.data(data) == {
        "a": 1,
        "tokens": REDACTED,
        "x": [{"my_secret": REDACTED}, f"psk={REDACTED}", None, 1.5, True],
    }


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*KEYS, "slot", "detail"]) | st.text(), inner),
        max_leaves=10,
    )
)
def test_json_stays_json_and_twice_is_once(data: object) -> None:
    """Data that was redacted, printed and redacted as text once more is still JSON, and a third time changes nothing."""
    text = PLAIN.text(json.dumps(PLAIN.data({"data": data})))
    json.loads(text)
    assert PLAIN.text(text) == text


@given(st.text(), st.sampled_from(KEYS), st.text(alphabet=st.characters(exclude_characters="\n"), min_size=8))
def test_a_quoted_secret_never_survives_printing(before: str, key: str, secret: str) -> None:
    """Any secret, in any text of ours that was printed as JSON, is gone."""
    marked = f"S{secret}S"
    printed = json.dumps({"before": before.replace('"', ""), key: marked})
    assert json.loads(PLAIN.text(printed))[key] == REDACTED


@pytest.mark.parametrize(
    "hostile", ["a", "a.", "psk", "psk=[", 'psk="', "psk='\\", "a://b:", "--psk-", 'psk=\\"', "bearer ", "\\"]
)
def test_what_a_board_says_costs_no_minutes(hostile: str) -> None:
    """Half a megabyte made to be slow is gone through like any other: this test has a time limit of its own."""
    PLAIN.text(hostile * (500_000 // len(hostile)))


def test_the_secrets_of_boards_are_taken_out_as_well() -> None:
    """Those that lie in files and those of a whole table, in text and in data, as they are and encoded."""
    redaction = Redaction(secrets=Secrets(["hunter-green"], many=["row-key-1", "row-key-12"]))
    said = redaction.data({"detail": "it said hunter-green", "more": [b"hunter-green".hex(), "row-key-12!"]})
    assert said == {"detail": f"it said {REDACTED}", "more": [REDACTED, f"{REDACTED}!"]}
    assert Redaction().text("it said hunter-green") == "it said hunter-green"


def test_a_frozen_recipe_and_the_credentials_of_the_service_teach_as_well(tmp_path: Path) -> None:
    """The table of a recipe that is a bundle, and what systemd gives the service: taken out by who reports as root."""
    (tmp_path / "boards.csv").write_text("mac,token\n5c:cf:7f:00:00:01,token-of-it\n")
    recipe = load_recipe(
        write_recipe(tmp_path, make_small_image(), '[values]\ncsv = "boards.csv"\nby = "mac"\nsecret = ["token"]\n')
    )
    bundle = tmp_path / f"thing{SUFFIX}"
    bundle.write_bytes(freeze(recipe).content)
    shown = tmp_path / SERVICE_CREDENTIALS
    shown.mkdir(parents=True)
    (shown / "wifi").write_text("Sommerregen")
    (shown / "wifi").chmod(0o440)
    config = Config(work=WorkSection(recipe=str(bundle), values=str(tmp_path)))
    assert support._redaction(config, None, tmp_path).text("token-of-it, Sommerregen") == f"{REDACTED}, {REDACTED}"
