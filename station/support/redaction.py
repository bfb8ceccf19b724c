r"""Takes secrets out of text: the values that settings give to keys named like secrets, and whatever looks like one.

Two nets. Values learnt from the settings are taken out wherever they turn up, plain, JSON-escaped or percent-encoded. Then
anything of the form `…password… = value` (`:`, quotes, escaped quotes as in JSON within JSON, `--token value`), `Bearer
value` and `scheme://user:password@host`. What is a secret by neither its name nor its place cannot be known.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from station.secrets import NO_SECRETS, REDACTED, Secrets

LEARNT_CHARACTERS_MIN = 4
"""A shorter value would be found all over the place; the second net takes it where it stands beside its name."""
# Every repetition begins where nothing of its kind stands before, or is bounded: what a board says must not cost minutes.
_WORDS = "password|passwd|passphrase|secret|token|psk|credential"
_NAME = rf"(?<![\w.-])(?=[\w.-]*(?:{_WORDS}))[\w.-]++"
_VALUE = r"""
      (?P<triple>\"{3}|'{3})[\s\S]*?(?P=triple)
    | (?P<escaped>\\+["'])(?:(?!(?P=escaped))[\s\S])*(?P=escaped)
    | "(?:[^"\\]|\\.)*"
    | '(?:[^'\\]|\\.)*'
    | \[[^\]\n]{0,2000}\]
    | \\*["'][^"'\n]*           # cut off before its closing quote
    | [^\s,;&}\])"'\\]+
"""
_NAMED = re.compile(rf"(?P<before>{_NAME}\\*[\"']?\s*(?:=>|[=:>])\s*)(?P<value>{_VALUE})", re.IGNORECASE | re.VERBOSE)
_OPTION = re.compile(
    rf"(?P<before>(?<![\w.-])--(?=[\w.-]*(?:{_WORDS}))[\w.-]++\s+)(?P<value>[^\s\"'\\]+)", re.IGNORECASE
)
_BEARER = re.compile(r"(?P<before>\b(?:bearer|basic)\s+)(?P<value>[A-Za-z0-9+/=._~-]{8,})", re.IGNORECASE)
_IN_URL = re.compile(
    r"(?P<before>\b[a-z][a-z0-9+.-]{0,20}://[^\s:/@\"'\\]{0,200}:)(?P<value>[^\s\"'\\]{1,500})(?=@)", re.IGNORECASE
)
_IS_SECRET_NAME = re.compile(_WORDS, re.IGNORECASE)


class Redaction:
    """What is taken out; `settings` are the texts of files that hold keys and values, TOML or JSON, whole or broken.

    `secrets` are those that recipes give to boards.
    """

    def __init__(self, *settings: str, secrets: Secrets = NO_SECRETS) -> None:
        self._secrets = secrets
        values = {value for text in settings for value in _learnt(text)}
        forms = {form for value in values for form in (value, json.dumps(value)[1:-1], quote(value, safe=""))}
        # The longest first: one value may be the beginning of another.
        wanted = sorted((form for form in forms if len(form) >= LEARNT_CHARACTERS_MIN), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, wanted))) if wanted else None

    def text(self, text: str) -> str:
        """Return `text` without secrets; applied twice it is the same."""
        text = self._secrets.text(text)
        if self._known is not None:
            text = self._known.sub(REDACTED, text)
        text = _NAMED.sub(_in_its_quotes, text)
        for pattern in (_OPTION, _BEARER, _IN_URL):
            text = pattern.sub(rf"\g<before>{REDACTED}", text)
        return text

    def data(self, data: Any) -> Any:
        """Return JSON-like data without secrets: by the names of its keys, and every text in it."""
        match data:
            case str():
                return self.text(data)
            case dict():
                return {
                    str(key): REDACTED if _IS_SECRET_NAME.search(str(key)) else self.data(value)
                    for key, value in data.items()
                }
            case list() | tuple():
                return [self.data(each) for each in data]
            case _:
                return data


def _in_its_quotes(found: re.Match[str]) -> str:
    """Keep the quotes, so that JSON stays JSON."""
    value = found["value"]
    opening = found["triple"] or found["escaped"] or (value[0] if value[0] in "\"'" else "")
    closing = opening if value.endswith(opening) and len(value) > len(opening) else ""
    return f"{found['before']}{opening}{REDACTED}{closing}"


def _learnt(text: str) -> Iterator[str]:
    """Every secret in a file of settings."""
    yield from (found["value"].strip("\"'") for found in _NAMED.finditer(text))
    yield from (form for found in _IN_URL.finditer(text) for form in (found["value"], unquote(found["value"])))
    for parse in (tomllib.loads, json.loads):
        try:
            yield from _secrets_in(parse(text), is_secret=False)
        except (ValueError, RecursionError):
            continue


def _secrets_in(data: object, *, is_secret: bool) -> Iterator[str]:
    match data:
        case dict():
            for key, value in data.items():
                yield from _secrets_in(value, is_secret=is_secret or bool(_IS_SECRET_NAME.search(str(key))))
        case list():
            for each in data:
                yield from _secrets_in(each, is_secret=is_secret)
        case str() | int() | float() if is_secret and not isinstance(data, bool):
            yield str(data).strip()
        case _:
            return
