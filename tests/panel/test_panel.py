"""The HTTP side of the operator's page, through the real server on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import signal
import socket
import threading
import time
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest

from station.errors import ConfigurationError
from station.model import Light, Phase
from station.panel import server
from station.panel.app import COALESCE_S, make_app, make_metrics_app
from station.panel.server import Address, serve
from station.reasons import Reason
from station.views import PENDING_SHOWN, SlotView, StationView
from tests.panel.doubles import FakeBench, RunningPanel, busy, ended, passed, slot_view, station_view, waiting

PATHS = (
    "/",
    "/panel.css",
    "/panel.js",
    "/board.css",
    "/icon.svg",
    "/events",
    "/api/slots",
    "/api/jobs",
    "/api/pending",
    "/metrics",
    "/healthz",
    "/readyz",
)


def ask(panel: RunningPanel, path: str, method: str = "GET", host: str = "") -> tuple[http.client.HTTPResponse, bytes]:
    """Return the answer to one request and its whole body."""
    connection = http.client.HTTPConnection(panel.address.host, panel.address.port, timeout=30)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


class EventStream:
    """A browser's end of `/events`."""

    def __init__(self, panel: RunningPanel) -> None:
        self._connection = http.client.HTTPConnection(panel.address.host, panel.address.port, timeout=30)
        self._connection.request("GET", "/events")
        self._answer = self._connection.getresponse()
        assert self._answer.headers["Content-Type"].startswith("text/event-stream")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._answer.close()
        self._connection.close()

    def next_event(self) -> tuple[str, str]:
        """Return name and data of the next event; ("", "") at the end of the stream."""
        fields: dict[str, str] = {}
        try:
            while line := self._answer.readline().decode():
                if line == "\n":
                    return fields["event"], fields["data"]
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value
        except (http.client.IncompleteRead, ConnectionResetError):
            pass
        return "", ""

    def next_state(self) -> Any:
        """Return the next view."""
        while True:
            name, data = self.next_event()
            assert name, "the stream ended"
            if name == "state":
                return json.loads(data)


def test_serves_everything_itself(running_panel):
    """The page and all it loads come from the station, as files of the right type."""
    for path, kind in (("/", "text/html"), ("/panel.css", "text/css"), ("/panel.js", "text/javascript")):
        answer, body = ask(running_panel, path)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith(kind)
        assert b"http://www.w3.org" in body or b"://" not in body
    assert ask(running_panel, "/icon.svg")[0].headers["Content-Type"] == "image/svg+xml"


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
def test_guards_every_answer(running_panel, path):
    """Every answer forbids framing, sniffing and scripts from elsewhere, refusals included."""
    for method, host in (("HEAD", ""), ("POST", ""), ("HEAD", "evil.example")):
        answer, _ = ask(running_panel, path, method, host)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", PATHS)
def test_is_read_only(running_panel, path):
    """Nothing but GET and HEAD is answered, anywhere; HEAD of the event stream ends."""
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert ask(running_panel, path, method)[0].status == 405
    answer, body = ask(running_panel, path, "HEAD")
    assert answer.status == 200
    assert body == b""


def test_refuses_foreign_host_names(running_panel):
    """A page whose name was rebound to the station's address gets nothing."""
    for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example"):
        answer, body = ask(running_panel, "/api/slots", host=host)
        assert (answer.status, body) == (400, b"Invalid host header")
    for host in ("localhost", "LOCALHOST:9", "127.0.0.1:8080", "[::1]:8080"):
        assert ask(running_panel, "/api/slots", host=host)[0].status == 200


def test_accepts_configured_host_names():
    """A name the configuration gives to the station is accepted in Host besides those of loopback."""

    async def call(host: bytes) -> int:
        sent: list[Any] = []
        app = make_app(FakeBench(station_view()), NoMetrics(), host_names=["Bench-1.local"])
        scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": [(b"host", host)], "query_string": b""}

        async def receive() -> dict:
            return {"type": "http.request"}

        async def send(message) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(call(b"bench-1.local:8080")) == 200
    assert asyncio.run(call(b"bench-2.local:8080")) == 400


def test_slots_are_the_view(running_panel):
    """`/api/slots` is the view, field by field, with whatever a board said as plain JSON text."""
    hostile = slot_view("A1", Light.FAIL, "BAD", words='</script><script>alert(1)</script>\x1b[31m"\n', deed="unplug")
    boards = [waiting(number) for number in range(PENDING_SHOWN + 3)]
    running_panel.bench.show(
        station_view(
            hostile,
            busy("A2", Phase.FLASH, 0.5, "460800 baud"),
            notices=("no light",),
            pending=boards,
            rejected_count=4,
        )
    )
    with EventStream(running_panel) as events:
        streamed = events.next_state()
    answer, body = ask(running_panel, "/api/slots")
    view = json.loads(body)
    assert answer.headers["Content-Type"] == "application/json"
    assert view == streamed
    assert set(view) == set(StationView.__dataclass_fields__)
    assert view["notices"] == ["no light"]
    assert view["pending"] == [dataclasses.asdict(board) for board in boards[:PENDING_SHOWN]]
    assert (view["pending_count"], view["rejected_count"]) == (PENDING_SHOWN + 3, 4)
    assert set(view["slots"][0]) == set(SlotView.__dataclass_fields__)
    assert view["slots"][0]["words"] == '</script><script>alert(1)</script>\x1b[31m"\n'
    assert (view["slots"][1]["light"], view["slots"][1]["phase"], view["slots"][1]["fraction"]) == (
        "BUSY",
        "FLASH",
        0.5,
    )


def test_jobs_come_from_a_thread(running_panel):
    """`/api/jobs` gives the last jobs, read from the records outside the event loop."""
    running_panel.bench.rows = [{"job": str(number), "outcome": "PASS"} for number in range(500)]
    answer, body = ask(running_panel, "/api/jobs?limit=2")
    assert answer.status == 200
    assert json.loads(body) == {"jobs": [{"job": "0", "outcome": "PASS"}, {"job": "1", "outcome": "PASS"}]}
    assert len(json.loads(ask(running_panel, "/api/jobs")[1])["jobs"]) == 100
    assert len(running_panel.bench.read_in) == 2
    assert all(thread.name != "panel" for thread in running_panel.bench.read_in)


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1e3", "٣", "9" * 400])
def test_jobs_refuses_a_bad_limit(running_panel, limit):
    """A limit that is no number from 1 to 1000 is refused, and the records are not asked."""
    answer, body = ask(running_panel, f"/api/jobs?limit={urllib.parse.quote(limit)}")
    assert answer.status == 400
    assert json.loads(body) == {"error": "limit must be a number from 1 to 1000"}
    assert running_panel.bench.read_in == []


def test_pending_is_the_whole_list(running_panel):
    """`/api/pending` gives every board that waits for its test, also those beyond the view, from outside the event loop."""
    running_panel.bench.waiting = boards = [waiting(number) for number in range(PENDING_SHOWN + 10)]
    answer, body = ask(running_panel, "/api/pending")
    assert answer.status == 200
    assert json.loads(body) == {"pending": [dataclasses.asdict(board) for board in boards]}
    assert [thread.name != "panel" for thread in running_panel.bench.read_in] == [True]
    running_panel.bench.waiting = []
    assert json.loads(ask(running_panel, "/api/pending")[1]) == {"pending": []}


@pytest.mark.parametrize("path", ["/api/jobs", "/api/pending"])
def test_says_when_records_fail(running_panel, path):
    """Unreadable records are a 503 with the reason, and the rest of the page goes on."""
    running_panel.bench.records_fail = True
    answer, body = ask(running_panel, path)
    assert answer.status == 503
    assert "disk I/O error" in json.loads(body)["error"]
    assert ask(running_panel, "/healthz")[0].status == 200


def test_readiness_names_each_condition(running_panel):
    """`/readyz` is 200 when the station can take a board, else 503, and says which condition is missing."""
    assert ask(running_panel, "/readyz")[0].status == 200
    running_panel.bench.show(
        station_view(ready=False, recipe_loaded=False, notices=("No recipe: set work.recipe in the configuration.",))
    )
    with EventStream(running_panel) as events:
        assert events.next_state()["ready"] is False
    answer, body = ask(running_panel, "/readyz")
    assert answer.status == 503
    assert json.loads(body) == {
        "ready": False,
        "udev_heard": True,
        "database_writable": True,
        "recipe_loaded": False,
        "notices": ["No recipe: set work.recipe in the configuration."],
    }
    assert ask(running_panel, "/healthz")[0].status == 200


def test_metrics_are_served_beside_the_page(running_panel):
    """`/metrics` is the text format of Prometheus with what the station counted."""
    running_panel.metrics.baud_fallback("A2")
    answer, body = ask(running_panel, "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'station_baud_fallbacks_total{slot="A2"} 1.0\n' in body


def test_events_begin_with_the_whole_state(running_panel):
    """A new listener gets the edition of the page and the whole state at once, and each later change."""
    running_panel.bench.show(station_view(passed("A1"), slot_view("A2")))
    with EventStream(running_panel) as events:
        name, edition = events.next_event()
        assert (name, len(edition)) == ("edition", 16)
        assert [slot["headline"] for slot in events.next_state()["slots"]] == ["GOOD", "EMPTY"]
        running_panel.bench.change(ended("A2", Reason.NO_BOOT))
        while (state := events.next_state())["slots"][1]["headline"] != "BAD":
            assert state["slots"][0]["headline"] == "GOOD"


def test_events_tell_the_time_before_each_state(running_panel):
    """Before each state comes the station's own time, so that a browser needs no clock to tell how old something is."""
    before = datetime.now(UTC)
    with EventStream(running_panel) as events:
        events.next_event()
        for _ in range(2):
            name, moment = events.next_event()
            assert name == "now"
            assert before - timedelta(milliseconds=1) <= datetime.fromisoformat(moment) <= datetime.now(UTC)
            assert events.next_event()[0] == "state"


def test_events_beat_without_changes(running_panel):
    """The state comes again and again while nothing changes, so that silence means that the station is gone."""
    with EventStream(running_panel) as events:
        first = events.next_state()
        assert events.next_state() == first
        assert events.next_state() == first


def test_events_are_coalesced(running_panel):
    """A storm of changes reaches a browser as at most ten states a second, the last of them complete."""
    with EventStream(running_panel) as events:
        begun = time.monotonic()
        for percent in range(301):
            running_panel.bench.change(busy("A1", Phase.FLASH, percent / 300))
            time.sleep(0.003)
        states = 1
        while events.next_state()["slots"][0]["fraction"] != 1.0:
            states += 1
        assert states <= (time.monotonic() - begun) / COALESCE_S + 2


def test_stops_with_listeners(running_panel):
    """Stopping ends event streams and half requests, leaves no task behind, and frees the port."""
    half = socket.create_connection(running_panel.address)
    half.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
    with EventStream(running_panel) as first, EventStream(running_panel) as second, half:
        first.next_state()
        second.next_state()
        running_panel.stop()
        for events in (first, second):
            while events.next_event() != ("", ""):
                pass
        assert half.recv(1000) == b""
    assert running_panel.left_over == set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(running_panel.address)


def test_survives_a_listener_that_leaves(running_panel):
    """A browser that goes away without a word costs nothing: the others and the next go on."""
    for _ in range(5):
        with EventStream(running_panel) as events:
            events.next_state()
    with EventStream(running_panel) as events:
        running_panel.bench.change(passed("A1"))
        while events.next_state()["slots"][0]["headline"] != "GOOD":
            pass
    running_panel.stop()
    assert running_panel.left_over == set()


def test_cuts_slow_clients_but_not_listeners(running_panel, monkeypatch):
    """A client that dawdles over its request is cut off after its time; an event stream may live on."""
    monkeypatch.setattr(server, "CONNECTION_LIFETIME_S", 0.5)
    with EventStream(running_panel) as events, socket.create_connection(running_panel.address) as slow:
        slow.settimeout(30)
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        begun = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(1000) == b""
        while time.monotonic() - begun < 1.5:
            assert events.next_state()


def test_refuses_more_clients_than_it_can_bear(running_panel):
    """Beyond a fixed number of connections a client is told to come later; it is not queued for ever."""
    idle = [socket.create_connection(running_panel.address) for _ in range(server.MOST_CONNECTIONS)]
    try:
        assert ask(running_panel, "/metrics")[0].status == 503
    finally:
        for each in idle:
            each.close()
    deadline = time.monotonic() + 30
    while ask(running_panel, "/metrics")[0].status == 503:
        assert time.monotonic() < deadline


class NoMetrics:
    """A scrape without samples."""

    content_type = "text/plain"

    def render(self) -> bytes:
        """Return nothing."""
        return b""


def test_an_address_in_use_is_a_configuration_error():
    """An address that cannot be had is one message with file, key, address and the fix, before anything is served."""

    async def serve_twice() -> None:
        app = make_metrics_app(NoMetrics())
        async with serve(app, "127.0.0.1:0", key="metrics.listen", file="station.toml") as address:
            assert address.port != 0
            async with serve(app, str(address), key="http.listen", file="station.toml"):
                pass

    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(serve_twice())
    assert str(caught.value).startswith("station.toml: http.listen: cannot listen on 127.0.0.1:")
    assert "Address already in use" in caught.value.problem
    assert "another address or port" in caught.value.fix


@pytest.mark.parametrize("listen", ["nonsense", "192.0.2.1:8080", "no such host:80"])
def test_an_impossible_address_is_a_configuration_error(listen):
    """A malformed address, or one that is not this machine's, names the key and says what to write."""

    async def try_it() -> None:
        async with serve(make_metrics_app(NoMetrics()), listen, key="metrics.listen", file="station.toml"):
            pass

    with pytest.raises(ConfigurationError, match=r"metrics\.listen: cannot listen on .*Fix: "):
        asyncio.run(try_it())


def test_leaves_signals_to_the_daemon():
    """Serving touches no signal handler, not even while it runs in the main thread."""
    assert threading.current_thread() is threading.main_thread()
    wanted = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def look() -> None:
        async with serve(make_metrics_app(NoMetrics()), "127.0.0.1:0", key="k", file="f") as address:
            await asyncio.to_thread(socket.create_connection(address).close)
            assert signal.getsignal(signal.SIGTERM) == wanted[signal.SIGTERM]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(look())
    assert {number: signal.getsignal(number) for number in wanted} == wanted


def test_metrics_address_has_nothing_else(running_panel):
    """On the second address there are the metrics for any host name, and nothing else at all."""
    found: dict[str, int] = {}

    async def look() -> None:
        app = make_metrics_app(running_panel.metrics)
        async with serve(app, "127.0.0.1:0", key="metrics.listen", file="f") as address:
            for path in PATHS:
                found[path] = await asyncio.to_thread(status_of, address, path)

    def status_of(address: Address, path: str) -> int:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
        connection.request("GET", path, headers={"Host": "bench-1.office.example:9500"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    asyncio.run(look())
    assert found == dict.fromkeys(PATHS, 404) | {"/metrics": 200}
