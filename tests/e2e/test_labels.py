"""Labels and boards' pages through the real daemon: a PASS never waits for its label, and the QR code opens its board."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import json
import socket
import urllib.parse
from pathlib import Path

import pytest

from station.adapters import label_lane
from station.config import Config, LabelSection
from station.demo import write_demo_recipe
from station.errors import ConfigurationError
from station.model import Light
from tests.adapters.printer_rig import printing
from tests.e2e.command import station
from tests.e2e.workbench import PATIENCE_S, Workbench, a_board, at_work, config_for

LABELS = "SELECT state, attempt, person, reason FROM label ORDER BY sequence"


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    """Look and try again at once."""
    monkeypatch.setattr(label_lane, "LOOK_S", 0.05)
    monkeypatch.setattr(label_lane, "RETRY_S", 0.1)


def label_bench(tmp_path: Path, **label) -> Config:
    """A station with labels."""
    recipe, _ = write_demo_recipe(tmp_path / "recipe")
    return config_for(tmp_path, recipe, label=LabelSection(**label))


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def fetched(url: str, host: str = "") -> tuple[int, str]:
    """Status and text of a page, as a phone gets it; `host` is what the phone calls the station."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", address.path, headers={"Host": host or address.netloc})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def _says(at: Workbench, words: str) -> bool:
    """Whether a notice says this."""
    return words in " ".join(at.floor.view().notices)


async def until_rows(at: Workbench, query: str, rows: list[tuple[object, ...]]) -> None:
    """Wait for these rows."""
    async with asyncio.timeout(PATIENCE_S):
        while at.rows(query) != rows:  # noqa: ASYNC110 - another process may write them
            await asyncio.sleep(0.02)


async def metric(at: Workbench, sample: str) -> float:
    """The value of one sample."""
    text = await asyncio.to_thread(fetched, f"http://{at.address}/metrics")
    return next(float(line.rpartition(" ")[2]) for line in text[1].splitlines() if line.startswith(f"{sample} "))


def test_a_board_that_passes_gets_a_label_whose_code_opens_its_page(tmp_path) -> None:
    """A label for PASS, none for FAIL; its QR code leads to the page of this board, which answers to the label's host."""
    port = free_port()
    good, bad = a_board(), a_board("out_of_limits")

    async def main() -> None:
        with printing() as printer:
            listen = f"127.0.0.1:{port}"
            config = label_bench(tmp_path, printer=printer.url, listen=listen, url=f"http://bench.example:{port}")
            async with at_work(config) as at:
                assert (await at.visit("A1", bad)).light is Light.FAIL
                assert (await at.visit("A1", good)).light is Light.PASS
                await until_rows(at, LABELS, [("printed", 1, "", "")])
                code, slot, bench, *_ = printer.said_on(0)
                assert (slot, bench) == ("A1", "test")
                url = code.removeprefix("MA,")
                status, page = await asyncio.to_thread(fetched, url)
                mac = good.mac.hex(":")
                assert (status, mac in page, "GOOD" in page) == (200, True, True)
                assert "script" not in page
                assert await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/board.css") != (404, "")
                for elsewhere in ("/", "/metrics", "/api/slots", "/events", f"/api/board/{mac}"):
                    assert (await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}{elsewhere}"))[0] == 404
                assert await metric(at, 'station_labels_total{state="printed"}') == 1
                assert await metric(at, "station_labels_waiting") == 0

    asyncio.run(main())


def test_a_printer_that_is_off_costs_no_pass(tmp_path) -> None:
    """Green as ever; the page names the printer and counts what waits, and readiness does not suffer."""
    port = free_port()

    async def main() -> None:
        async with at_work(label_bench(tmp_path, printer=f"tcp://127.0.0.1:{port}")) as at:
            for number in (1, 2):
                assert (await at.visit("A1", a_board())).light is Light.PASS
                await at.until(functools.partial(_says, at, f"{number} labels wait"))
            assert _says(at, f"tcp://127.0.0.1:{port} does not answer")
            assert at.floor.view().ready
            assert at.rows("SELECT outcome FROM job") == [("PASS",), ("PASS",)]
            assert await metric(at, "station_labels_waiting") == 2

    asyncio.run(main())


def test_labels_only_where_they_are_asked_for(tmp_path) -> None:
    """`on = "never"`: no label for a PASS; a person asks for one beside the running station, and it comes."""
    chip = a_board()

    async def main() -> None:
        with printing() as printer:
            config = label_bench(tmp_path, printer=printer.url, on="never")
            file = tmp_path / "station.toml"
            file.write_text(
                f'[station]\nid = "test"\nstate_dir = "{config.state_dir}"\n[label]\nprinter = "{printer.url}"\n'
            )
            async with at_work(config) as at:
                assert (await at.visit("A1", chip)).light is Light.PASS
                mac = chip.mac.hex(":")
                asked = ("label", "print", mac, "--by", "Ada", "--reason", "for the shelf", "--config", file)
                done = await asyncio.to_thread(station, *asked)
                assert done.code == 0, done.err
                await until_rows(at, LABELS, [("printed", 1, "Ada", "for the shelf")])
                assert printer.said_on(0)[-2] == mac
                listed = await asyncio.to_thread(station, "label", "list", "--format", "json", "--config", file)
                assert [(row["mac"], row["state"], row["person"]) for row in listed.json] == [(mac, "printed", "Ada")]
                unknown = ("label", "print", "5c:cf:7f:ff:ff:ff", *asked[3:])
                assert "no job" in (await asyncio.to_thread(station, *unknown)).refused(78)

    asyncio.run(main())


def test_the_printer_is_tested_without_a_station(tmp_path) -> None:
    """`station label test` prints a label of no board, says what the printer complains of, and shows the ZPL."""
    with printing() as printer:
        file = tmp_path / "station.toml"
        file.write_text(f'[station]\nid = "bench-1"\n[label]\nprinter = "{printer.url}"\n')
        done = station("label", "test", "--config", file)
        assert done.code == 0, done.err
        assert printer.came.wait(10)
        assert printer.said_on(0)[1:4] == ["A1", "bench-1", "TEST LABEL"]
        printer.mood = "paper out"
        done = station("label", "test", "--config", file)
        assert (done.code, done.out) == (1, "")
        assert "paper out" in done.err
        shown = station("label", "test", "--zpl", "--config", file)
        assert shown.out.encode() == printer.labels[0]
        assert len(printer.labels) == 1
    file.write_text("")
    assert "label.printer" in station("label", "test", "--config", file).refused(78)


def test_a_board_has_a_page_at_the_bench(tmp_path) -> None:
    """The operator's server has it, too, with its JSON; a stranger gets 404, nonsense 400, another host name nothing."""
    chip = a_board()
    mac = chip.mac.hex(":")

    async def main() -> None:
        async with at_work(label_bench(tmp_path)) as at:
            await at.visit("A1", chip)
            base = f"http://{at.address}"

            async def get(path: str, host: str = "") -> tuple[int, str]:
                return await asyncio.to_thread(fetched, base + path, host)

            status, page = await get(f"/board/{mac}")
            assert (status, "GOOD" in page, 'href="/"' in page) == (200, True, True)
            status, body = await get(f"/api/board/{mac}")
            (life,) = json.loads(body)["boards"]
            assert (status, life["mac"], [job["outcome"] for job in life["jobs"]]) == (200, mac, ["PASS"])
            assert life["jobs"][0]["measurements"]
            assert (await get("/board/5ccf7fffffff"))[0] == 404
            assert (await get("/board/lamp"))[0] == 400
            assert (await get("/api/board/%3Cscript%3E"))[0] == 400
            assert "<script>" not in (await get("/board/%3Cscript%3E"))[1]
            assert (await get(f"/board/{mac}", "evil.example"))[0] == 400

    asyncio.run(main())


def test_a_template_that_is_wrong_is_said_at_the_start(tmp_path) -> None:
    """Before anything is plugged in."""
    template = tmp_path / "label.zpl"
    template.write_text("^XA^FH^FD${mcc}^FS^XZ")
    config = label_bench(tmp_path, printer="tcp://127.0.0.1:1", template=str(template))

    async def main() -> None:
        async with at_work(config):
            raise AssertionError("it started")

    with pytest.raises(ConfigurationError, match="mcc"):
        asyncio.run(main())
