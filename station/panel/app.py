"""The operator's page and the HTTP API, as Starlette applications: what is answered, not how it is served.

Everything is read-only and answers GET and HEAD alone. The page takes its state from `/events`: the whole view on connect,
after each change, and at least every second, so that a browser can tell silence from calm; the station's own time goes with
it, so that ages never hang on the browser's clock. Text from boards travels as JSON only. Blocking work (records, metrics)
is done off the loop, one request at a time, so that a greedy client cannot starve the bench. It
must never answer to a host name that is not the station's (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from station.errors import ConfigurationError, RecordsUnwritable
from station.panel.board_page import CSS, board_page, refusal
from station.views import PendingView, StationView

EVENTS_PATH = "/events"
HEARTBEAT_S = 1.0
"""The page calls the connection lost after two and a half of these."""
COALESCE_S = 0.1
DEFAULT_JOBS = 100
MOST_JOBS = 1000
T = TypeVar("T")
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

STATIC_FILES: Mapping[str, str] = {
    "index.html": "text/html; charset=utf-8",
    "panel.css": "text/css; charset=utf-8",
    "panel.js": "text/javascript; charset=utf-8",
    "board.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Bench(Protocol):
    """What the page shows: the station as the daemon sees it."""

    def view(self) -> StationView:
        """Return the bench as it is now. Called on the event loop; must return at once."""

    def jobs(self, limit: int) -> Sequence[Mapping[str, object]]:
        """Return the last `limit` jobs, newest first, as JSON-ready rows. Called from a thread; may block.

        Raises `RecordsUnwritable` when the records cannot be read.
        """

    def pending(self) -> Sequence[PendingView]:
        """Return every board that is flashed and not tested, longest waiting first. Called from a thread; may block.

        Raises `RecordsUnwritable` when the records cannot be read.
        """

    async def wait_change(self, seen: int) -> int:
        """Return the revision of the view as soon as it is greater than `seen`; -1 returns at once.

        Called on the event loop, and cancelled at any time: waiting must leave nothing behind.
        """


BoardLives = Callable[[str], Sequence[Mapping[str, Any]]]
"""What the records say of the boards that a MAC or chip ID names. Called from a thread; may block.

Raises ValueError for a key that is neither, `RecordsUnwritable` and `ConfigurationError` when the records cannot be read.
"""


class MetricsText(Protocol):
    """The metrics in the text format Prometheus scrapes."""

    content_type: str

    def render(self) -> bytes:
        """Return all samples. Called from a thread."""


def nobody(_key: str) -> Sequence[Mapping[str, Any]]:
    """No record knows any board."""
    return ()


def make_app(
    bench: Bench, metrics: MetricsText, *, host_names: Sequence[str] = (), boards: BoardLives = nobody
) -> Starlette:
    """Return the application behind `http.listen`; `host_names` are accepted in `Host` besides those of loopback."""
    files = {name: resources.files(__package__).joinpath("static", name).read_bytes() for name in STATIC_FILES}
    edition = hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
    from_records = _RecordsReader()

    async def events(request: Request) -> Response:
        headers = {"Cache-Control": "no-store"}
        if request.method == "HEAD":
            return Response(media_type="text/event-stream", headers=headers)
        return StreamingResponse(_events(bench, edition), media_type="text/event-stream", headers=headers)

    async def slots(_: Request) -> Response:
        return _json(bench.view())

    async def jobs(request: Request) -> Response:
        limit = request.query_params.get("limit", str(DEFAULT_JOBS))
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= MOST_JOBS):
            return _json({"error": f"limit must be a number from 1 to {MOST_JOBS}"}, status=400)
        return await from_records.answer("jobs", lambda: bench.jobs(int(limit)))

    async def pending(_: Request) -> Response:
        return await from_records.answer("pending", bench.pending)

    async def healthz(_: Request) -> Response:
        return _json({"alive": True})

    async def readyz(_: Request) -> Response:
        return _readiness(bench.view())

    routes = [
        *(_static_route(name, body) for name, body in files.items()),
        Route(EVENTS_PATH, events, methods=["GET"]),
        Route("/api/slots", slots, methods=["GET"]),
        Route("/api/jobs", jobs, methods=["GET"]),
        Route("/api/pending", pending, methods=["GET"]),
        *_board_routes(boards, from_records, home=True),
        _metrics_route(metrics),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
    ]
    allowed = [*LOOPBACK_NAMES, *(name.lower() for name in host_names)]
    guards = [
        Middleware(_SecurityHeaders),
        Middleware(TrustedHostMiddleware, allowed_hosts=allowed, www_redirect=False),
    ]
    return Starlette(routes=routes, middleware=guards)


def make_metrics_app(metrics: MetricsText) -> Starlette:
    """Return the application behind `metrics.listen`: `/metrics`, and nothing else.

    It answers to any host name, since an office Prometheus calls the station as it likes; there is nothing on it that a
    rebound page could not also know.
    """
    return Starlette(routes=[_metrics_route(metrics)], middleware=[Middleware(_SecurityHeaders)])


def make_boards_app(boards: BoardLives) -> Starlette:
    """Return the application behind `label.listen`: the pages of boards, for the phones that read labels, nothing else.

    It answers to any host name, for phones call the station as its labels do; it knows nothing that a label's finder may
    not know.
    """
    css = resources.files(__package__).joinpath("static", CSS).read_bytes()
    routes = [_static_route(CSS, css), *_board_routes(boards, _RecordsReader(), home=False)[:1]]
    return Starlette(routes=routes, middleware=[Middleware(_SecurityHeaders)])


class _RecordsReader:
    """Answers from the records: one read at a time, in a thread."""

    def __init__(self) -> None:
        self._reading = asyncio.Lock()

    async def read(self, read: Callable[[], T]) -> T:
        """Return what was read; raises what `read` raises."""
        async with self._reading:
            return await asyncio.to_thread(read)

    async def answer(self, key: str, read: Callable[[], object]) -> Response:
        """Return what was read under `key`; 503 with the reason when the records cannot be read."""
        try:
            found = await self.read(read)
        except RecordsUnwritable as error:
            return _json({"error": f"the records cannot be read: {error}"}, status=503)
        return _json({key: found})


def _static_route(name: str, body: bytes) -> Route:
    async def answer(_: Request) -> Response:
        return Response(body, headers={"Content-Type": STATIC_FILES[name], "Cache-Control": "no-cache"})

    return Route("/" if name == "index.html" else f"/{name}", answer, methods=["GET"])


def _board_routes(boards: BoardLives, from_records: _RecordsReader, *, home: bool) -> list[Route]:
    """The page of a board, and the same as JSON."""

    async def find(request: Request) -> tuple[int, str, Sequence[Mapping[str, Any]]]:
        """Status, what is wrong if anything is, and the boards."""
        key = request.path_params["key"]
        try:
            lives = await from_records.read(lambda: boards(key))
        except ValueError as error:
            return 400, str(error), ()
        except (RecordsUnwritable, ConfigurationError) as error:
            return 503, f"the records cannot be read: {error}", ()
        return (200 if lives else 404), "", lives

    async def page(request: Request) -> Response:
        status, problem, lives = await find(request)
        html = refusal(problem) if problem else board_page(request.path_params["key"], lives, home=home)
        return Response(html, status, {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"})

    async def api(request: Request) -> Response:
        status, problem, lives = await find(request)
        return _json({"error": problem} if problem else {"boards": lives}, status=status)

    return [Route("/board/{key}", page, methods=["GET"]), Route("/api/board/{key}", api, methods=["GET"])]


def _metrics_route(metrics: MetricsText) -> Route:
    rendering = asyncio.Lock()

    async def answer(_: Request) -> Response:
        async with rendering:
            body = await asyncio.to_thread(metrics.render)
        return Response(body, headers={"Content-Type": metrics.content_type, "Cache-Control": "no-store"})

    return Route("/metrics", answer, methods=["GET"])


def _readiness(view: StationView) -> Response:
    """Return 200 when the station can take a board, else 503; the body names each condition."""
    body = {
        "ready": view.ready,
        "udev_heard": view.udev_heard,
        "database_writable": view.database_writable,
        "recipe_loaded": view.recipe_loaded,
        "notices": view.notices,
    }
    return _json(body, status=200 if view.ready else 503)


def _json(body: object, *, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(body),
        status_code=status,
        headers={"Content-Type": "application/json", "Cache-Control": "no-store"},
    )


async def _events(bench: Bench, edition: str) -> AsyncIterator[bytes]:
    """Yield server-sent events: `edition` once, then `now` and `state` on each change and after `HEARTBEAT_S` without one.

    A change that comes less than `COALESCE_S` after the last state waits for its turn and takes later ones with it.
    `edition` tells a page that is older than the station to load itself anew; `now` is the station's time, UTC, ISO 8601.
    """
    yield _event("edition", edition.encode())
    seen = -1
    while True:
        # Each beat is the whole state: a page that lost trust in what it shows gets it back with the first one.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S):
                seen = await bench.wait_change(seen)
        yield _event("now", datetime.now(UTC).isoformat(timespec="milliseconds").encode())
        yield _event("state", msgspec.json.encode(bench.view()))
        await asyncio.sleep(COALESCE_S)


def _event(name: str, data: bytes) -> bytes:
    # JSON from msgspec has no raw line breaks, so one data line is always enough (WHATWG HTML, "Server-sent events").
    return b"event: %b\nretry: 1000\ndata: %b\n\n" % (name.encode(), data)


class _SecurityHeaders:
    """Adds the security headers to every answer, refusals of the other guards included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await self._app(scope, receive, send_guarded if scope["type"] == "http" else send)
