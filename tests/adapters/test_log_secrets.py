"""The log takes secrets out of every event, whoever says it: ours, a library, a traceback."""

from __future__ import annotations

import base64
import io
import logging

import pytest
import structlog

from station.adapters.logs import LogFormat, configure_logging
from station.secrets import REDACTED, Secrets, Vault

KEY = "hunter-green-77"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_event_says_a_secret(log_format: LogFormat) -> None:
    """As text, bytes, number, object, in an exception and from a library; other values stay what they were."""
    stream, vault = io.StringIO(), Vault()
    with configure_logging("debug", log_format, stream, vault=vault):
        vault.keep(Secrets([KEY, "12345678"]))
        log = structlog.get_logger()
        log.info("board.said", text=f"key {KEY}", raw=KEY.encode(), number=12345678, small=17, other=[KEY])
        log.info("board.told", encoded=base64.b64encode(f"x{KEY}".encode()).decode())
        try:
            int(KEY)
        except ValueError:
            log.exception("board.broke")
        logging.getLogger("a.library").warning("it said %s", KEY)
    said = stream.getvalue()
    assert KEY not in said
    assert "12345678" not in said
    assert base64.b64encode(f"x{KEY}".encode()).decode()[3:-3] not in said
    assert said.count(REDACTED) >= 7
    assert "17" in said


def test_a_secret_is_gone_before_a_value_is_cut() -> None:
    """A value that is capped is cleaned first, so that no half of a secret is left at its end."""
    stream, vault = io.StringIO(), Vault()
    with configure_logging("info", "json", stream, vault=vault):
        vault.keep(Secrets([KEY]))
        structlog.get_logger().info("board.said", text="." * 1995 + KEY)
    assert KEY[:4] not in stream.getvalue()
