"""Serves a small application with uvicorn on the event loop that is already running.

It binds before it returns, so an address that cannot be had is a configuration error with a name and not a dead task. It
installs no signal handlers, ends when its context is left, and waits for nobody: event streams are cut, and no connection
lives longer than a few seconds unless it is one. So neither a slow scraper nor a slow browser can hold the station.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from station.config import parse_listen
from station.errors import ConfigurationError
from station.panel.app import EVENTS_PATH

CONNECTION_LIFETIME_S = 10.0
MOST_CONNECTIONS = 64
_SHUTDOWN_S = 2


class Address(NamedTuple):
    """Where a server really listens; the port is never 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@contextlib.asynccontextmanager
async def serve(app: Starlette, listen: str, *, key: str, file: str) -> AsyncIterator[Address]:
    """Serve `app` on `listen` (`host:port`, port 0 takes a free one) as long as the context is open.

    Yields the real address. Raises `ConfigurationError` naming `file` and `key` when the address cannot be had.
    """
    bound = _bind(listen, key=key, file=file)
    config = uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        # One request per connection, so that its lifetime bounds a request of any slowness.
        headers=[("Connection", "close")],
    )
    server = _Server(config)
    host, port = bound.getsockname()[:2]
    serving = asyncio.create_task(server.serve(sockets=[bound]), name=f"http {host}:{port}")
    try:
        yield Address(host, port)
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: signals are the daemon's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(H11Protocol):
    """One client. Uvicorn alone waits for ever for a request line and, at shutdown, for the end of an event stream."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        super().connection_made(transport)
        self._lifetime = self.loop.call_later(CONNECTION_LIFETIME_S, self._end_unless_events)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lifetime.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        if self._is_events():
            self.transport.abort()

    def _end_unless_events(self) -> None:
        if not self._is_events():
            self.transport.abort()

    def _is_events(self) -> bool:
        return self.scope is not None and self.scope["path"] == EVENTS_PATH


def _bind(listen: str, *, key: str, file: str) -> socket.socket:
    """Return a listening socket; raises `ConfigurationError`."""
    try:
        host, port = parse_listen(listen)
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (ValueError, OSError) as error:
        raise ConfigurationError(
            file=file,
            key=key,
            problem=f"cannot listen on {listen!r}: {error}",
            fix='write for example "127.0.0.1:8080"',
        ) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen()
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            file=file,
            key=key,
            problem=f"cannot listen on {listen}: {error.strerror}",
            fix="stop the program that listens there, or write another address or port (0 takes any free port)",
        ) from error
    return bound
