"""The fixtures of the operator's page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.panel.doubles import FakeBench, RunningPanel, slot_view, station_view


@pytest.fixture
def running_panel() -> Iterator[RunningPanel]:
    """A served page over eight empty slots."""
    panel = RunningPanel(FakeBench(station_view(*(slot_view(f"A{number}") for number in range(1, 9)))))
    panel.start()
    try:
        yield panel
    finally:
        panel.stop()
