"""A running station as its page tells it: `/api/slots` over loopback, and nothing else."""

from __future__ import annotations

import http.client
import urllib.request
from typing import Any

import msgspec

_TIMEOUT_S = 5.0


def read_view(listen: str) -> dict[str, Any] | None:
    """Return the station's view as JSON gives it; None when no station answers at `listen` (`host:port`)."""
    try:
        with urllib.request.urlopen(f"http://{listen}/api/slots", timeout=_TIMEOUT_S) as answer:
            view = msgspec.json.decode(answer.read())
    except (OSError, http.client.HTTPException, msgspec.DecodeError):
        return None
    return view if isinstance(view, dict) and "slots" in view else None
