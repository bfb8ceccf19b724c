"""The doctor about labels: real sockets for the printer and for the page that the QR codes open; nothing is ever printed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from station.adapters import printer as adapter
from station.config import Config, HttpSection, LabelSection, StationSection
from station.doctor import printing
from station.doctor.patient import patient
from station.errors import ConfigurationError
from station.panel.app import make_boards_app
from station.panel.server import serve
from station.views import Diagnosis, Level
from tests.adapters.printer_rig import Mood
from tests.adapters.printer_rig import printing as printer_at_work
from tests.panel.doubles import FakeBench, RunningPanel, station_view

ELSEWHERE = "127.0.0.2"
"""An address of this machine that does not look like one that only this machine can reach."""


def said_of(section: LabelSection, *, in_daemon: bool = False, listen: str = "127.0.0.1:8080") -> tuple[Diagnosis, ...]:
    """What the doctor says of these labels."""
    config = Config(label=section, http=HttpSection(listen=listen), station=StationSection(id="no-such-bench.invalid"))
    one = patient(config, root=Path("/nowhere"), in_daemon=in_daemon, clock_synchronised=lambda: True)
    return tuple(printing.label(one))


def served(section: dict[str, Any], known: tuple[dict[str, Any], ...] = ()) -> tuple[Diagnosis, ...]:
    """What it says while the boards' pages are served, at an address that `section` gets as `url`."""

    async def main() -> tuple[Diagnosis, ...]:
        async with serve(make_boards_app(lambda _key: known), "0.0.0.0:0", key="label.listen", file="test") as address:
            there = LabelSection(url=f"http://{ELSEWHERE}:{address.port}", listen=str(address), **section)
            return await asyncio.to_thread(said_of, there)

    return asyncio.run(main())


def test_without_a_printer_there_is_nothing_to_say() -> None:
    """No labels are wanted: that is no fault."""
    (only,) = said_of(LabelSection())
    assert only.level is Level.OK


def test_a_printer_and_a_page_that_answer_are_ok_and_nothing_is_printed() -> None:
    """The printer is asked how it is, the page for a board that nobody knows."""
    with printer_at_work() as at:
        (only,) = served({"printer": at.url})
        assert at.labels == []
    assert only.level is Level.OK, only
    assert f"http://{ELSEWHERE}:" in only.said


@pytest.mark.parametrize("mood", ["paper out", "head open", "hangs up"])
def test_a_printer_that_cannot_print_is_said(mood: Mood) -> None:
    """As it says itself, with its address."""
    with printer_at_work(mood) as at:
        (only,) = served({"printer": at.url})
    assert (only.level, at.url in only.said, "station label test" in only.fix) == (Level.WARNING, True, True)


def test_a_printer_that_is_off_is_said() -> None:
    """Nobody listens at its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    (only,) = served({"printer": where})
    assert only.said.startswith(f"{where} does not answer")


@pytest.mark.parametrize("section", [{}, {"listen": "127.0.0.1:8081"}, {"url": "http://localhost:8080"}])
@pytest.mark.parametrize("in_daemon", [True, False])
def test_a_code_that_only_this_machine_can_open_is_said(section, in_daemon) -> None:
    """Loopback, whatever it comes from; the daemon says it too, since the configuration alone tells."""
    with printer_at_work() as at:
        (only,) = said_of(LabelSection(printer=at.url, **section), in_daemon=in_daemon)
    assert only.level is Level.WARNING
    assert "no other machine" in only.said
    assert "label.listen" in only.fix


def test_a_code_that_leads_nowhere_is_said() -> None:
    """A port that nobody serves, a name that nobody knows: with the address and what was heard."""
    with socket.create_server((ELSEWHERE, 0)) as server:
        url = f"http://{ELSEWHERE}:{server.getsockname()[1]}"
    with printer_at_work() as at:
        (closed,) = said_of(LabelSection(printer=at.url, url=url, listen="0.0.0.0:8081"))
        (unknown,) = said_of(LabelSection(printer=at.url, listen="0.0.0.0:8081"))
        (unserved,) = said_of(LabelSection(printer=at.url, url=url))
    assert f"{url}/board/" in closed.said
    assert "Connection refused" in closed.said
    assert "port 8081" in closed.fix
    assert "no-such-bench.invalid:8081" in unknown.said
    assert 'set label.listen = "0.0.0.0:8081"' in unserved.fix


def test_a_code_that_opens_another_server_is_said() -> None:
    """The operator's page answers to no other name than loopback; and what knows that board is not ours."""
    panel = RunningPanel(FakeBench(station_view()), listen="0.0.0.0:0")
    panel.start()
    try:
        url = f"http://{ELSEWHERE}:{panel.address.port}"
        with printer_at_work() as at:
            (only,) = said_of(LabelSection(printer=at.url, url=url, listen="0.0.0.0:8081"))
    finally:
        panel.stop()
    assert "another server is there (400)" in only.said


def test_the_daemon_leaves_printer_and_page_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lane of labels talks to the printer, one connection at a time."""
    monkeypatch.setattr(adapter, "CONNECT_S", -1)
    (only,) = said_of(LabelSection(printer="tcp://127.0.0.1:1", listen="0.0.0.0:8081"), in_daemon=True)
    assert only.level is Level.OK


def test_a_template_that_is_none_is_said(tmp_path: Path) -> None:
    """With it the station does not start."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        said_of(LabelSection(printer="/dev/null", template=str(tmp_path / "none.zpl")))
