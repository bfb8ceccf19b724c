"""What labels need: a printer that can be reached and is ready, and a QR code that opens a page on somebody's phone.

Nothing is printed. In the daemon the printer and the page are left alone: the lane of the labels says what ails the printer.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from station.adapters.printer import open_printer
from station.config import parse_listen
from station.doctor.patient import Patient, Said, ok, warning
from station.errors import PrinterTrouble
from station.labels import STRANGER, board_url, load_template

NOBODYS_MAC = "02:00:00:00:00:01"
"""Locally administered: no board has it, so its page says that no record knows it."""
_ANSWER_S = 3.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def label(one: Patient) -> Said:
    """Whether the printer can print, and whether what its QR codes open is there."""
    section = one.config.label
    if not section.printer:
        yield ok("no printer is set: no labels")
        return
    load_template(section, file="station.toml")
    unwell = [*_printer(one), *_page(one)]
    yield from unwell
    if not unwell:
        yield ok(f"{section.printer}; QR codes open {_url(one)}")


def _printer(one: Patient) -> Said:
    if one.in_daemon:
        return
    printer = one.config.label.printer
    try:
        with open_printer(printer):
            pass
    except PrinterTrouble as trouble:
        said = trouble.problem if printer in trouble.problem else f"{printer}: {trouble.problem}"
        yield warning(said, "look after the printer, then station label test; labels wait until it can print")


def _page(one: Patient) -> Said:
    """What hangs on the configuration alone, then whether the page opens when it is asked for by its address."""
    section, url = one.config.label, _url(one)
    if urlsplit(url).hostname in _LOOPBACK:
        yield warning(
            f"QR codes open {url}, which no other machine can",
            'set label.listen = "0.0.0.0:8081", and label.url to how phones call this machine',
        )
        return
    problem = "" if one.in_daemon else _does_not_open(url)
    if not problem:
        return
    if not section.listen:
        fix = 'set label.listen = "0.0.0.0:8081" and label.url to that address, or let a proxy pass /board/ on to the station'
    else:
        port = parse_listen(section.listen)[1]
        fix = f"start the station, or write label.url as phones call it; label.listen has the port {port}"
    yield warning(f"QR codes open {url}, and from here that does not answer with the page: {problem}", fix)


def _does_not_open(url: str) -> str:
    """Why the page of a board that nobody knows does not come from there; empty when it does."""
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(url, timeout=_ANSWER_S) as answer:
            return f"it is another page ({answer.status})"
    except urllib.error.HTTPError as error:
        with error:
            ours = error.code == http.HTTPStatus.NOT_FOUND and STRANGER.encode() in error.read(100_000)
            return "" if ours else f"another server is there ({error.code})"
    except urllib.error.URLError as error:
        return str(getattr(error.reason, "strerror", None) or error.reason)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__


def _url(one: Patient) -> str:
    return board_url(one.config.label, one.config.http.listen, one.config.station_id, NOBODYS_MAC)
