"""What goes into a bug report: one function for each file in it, which returns text or raises why it cannot.

Everything is capped. What is data is redacted by the names of its keys here; all text is redacted once more by who writes it.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import platform
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from station.adapters.machine.tools import output_of
from station.adapters.machine.usb import HUB_CLASS, UsbDevice, usb_tree
from station.adapters.records import last_failed_transcripts, last_jobs
from station.bundle import recipe_text
from station.config import Config
from station.doctor import examine
from station.errors import ConfigurationError, StationError
from station.support.redaction import Redaction

JOBS = 200
TRANSCRIPTS = 20
JOURNAL_LINES = 5000
KERNEL_LINES = 20_000
FILE_BYTES_MAX = 4 << 20
METRICS_TIMEOUT_S = 5.0
_DISTRIBUTION = "flashing-station"
_ABOUT_USB = re.compile(r"usb|ch341|tty(?:USB|ACM)|cdc_acm|brltty|hub ", re.IGNORECASE)
Collector = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """Whom the report is about."""

    config: Config
    config_error: ConfigurationError | None
    """Why the real configuration could not be used."""
    config_path: Path | None
    root: Path
    redaction: Redaction


def collectors(station: Station) -> Iterator[tuple[str, Collector]]:
    """Return name -> how to collect it, for every file of the report."""
    config = station.config
    yield "doctor.json", partial(_doctor, station)
    yield "versions.json", partial(_versions, station)
    yield "configuration.toml", partial(_file, station.config_path)
    yield "recipe.toml", partial(_recipe, config)
    yield "slots.json", partial(_file, config.state_dir / "slots.json")
    yield "qualification.json", partial(_file, config.state_dir / "qualification.json")
    yield "jobs.json", partial(_jobs, station)
    yield from _transcripts(station)
    yield (
        "journal.txt",
        lambda: output_of("journalctl", "-u", "station", "-n", str(JOURNAL_LINES), "--no-pager", "-o", "short-iso"),
    )
    yield "kernel.txt", _kernel
    yield "usb.txt", partial(_usb, station.root)
    for node in _nodes(station):
        yield (
            f"udev/{node.rpartition('/')[2]}.txt",
            partial(output_of, "udevadm", "info", "--query=all", f"--name={node}"),
        )
    yield "metrics.txt", partial(_metrics, config.http.listen)


def _doctor(station: Station) -> str:
    found = examine(station.config, config_error=station.config_error, root=station.root)
    return _json(station, [msgspec.to_builtins(each) for each in found])


def _versions(station: Station) -> str:
    about = {
        "station": importlib.metadata.version(_DISTRIBUTION),
        "python": sys.version,
        "kernel": f"{platform.release()} {platform.version()} {platform.machine()}",
        "system": _system_name(station.root),
    }
    needed = importlib.metadata.requires(_DISTRIBUTION) or []
    names = sorted({re.split(r"[<>=~!\[; ]", line)[0] for line in needed if "extra" not in line})
    return _json(station, {**about, "packages": {name: importlib.metadata.version(name) for name in names}})


def _system_name(root: Path) -> str:
    try:
        text = (root / "etc/os-release").read_text("utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return found[1] if found else ""


def _file(path: Path | None) -> str:
    if path is None:
        raise FileNotFoundError("none is named")
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX).decode("utf-8", errors="backslashreplace")


def _recipe(config: Config) -> str:
    if not config.work.recipe:
        raise FileNotFoundError("none is named")
    return recipe_text(Path(config.work.recipe))[:FILE_BYTES_MAX]


def _jobs(station: Station) -> str:
    return _json(station, list(last_jobs(station.config.database_url, JOBS)))


def _transcripts(station: Station) -> Iterator[tuple[str, Collector]]:
    """What the boards of the last failed jobs said; one line that says why where the records cannot be read."""
    try:
        said = last_failed_transcripts(station.config.database_url, TRANSCRIPTS)
    except StationError as error:
        why = str(error)

        def refuse() -> str:
            raise FileNotFoundError(why)

        yield "transcripts", refuse
        return
    for job, transcript in said.items():
        yield f"transcripts/{job}.txt", partial(transcript.decode, "utf-8", "backslashreplace")


def _kernel() -> str:
    """Lines of the kernel's log about USB; from journald where it runs."""
    try:
        text = output_of("journalctl", "-k", "-n", str(KERNEL_LINES), "--no-pager", "-o", "short-iso")
    except OSError:
        text = output_of("dmesg")
    return "".join(f"{line}\n" for line in text.splitlines() if _ABOUT_USB.search(line))


def _nodes(station: Station) -> list[str]:
    ids = station.config.usb.ids
    return [tty.node for device in usb_tree(station.root).values() if device.usb_id in ids for tty in device.ttys]


def _usb(root: Path) -> str:
    tree = usb_tree(root)
    if not tree:
        raise FileNotFoundError("the kernel shows no USB here")
    return "".join(f"{'  ' * _depth(device)}{_described(device)}\n" for device in tree.values())


def _depth(device: UsbDevice) -> int:
    return 0 if device.is_root else device.path.count(".") + 1


def _described(device: UsbDevice) -> str:
    said = [device.name, device.usb_id, device.product, f"{device.speed_mbit:g} Mbit/s"]
    if device.device_class == HUB_CLASS:
        said.append({1: "hub, single TT", 2: "hub, multi TT"}.get(device.protocol, "hub"))
    if device.max_power_ma is not None:
        said.append(f"{device.max_power_ma} mA{', self-powered' if device.self_powered else ''}")
    said += [f"power {device.power_control}", *(f"{tty.node} {tty.id_path}" for tty in device.ttys)]
    return " | ".join(said)


def _metrics(listen: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=METRICS_TIMEOUT_S) as answer:
            body: bytes = answer.read(FILE_BYTES_MAX)
    except http.client.HTTPException as error:
        raise OSError(f"what answers at {listen} is no station: {error!r}") from None
    return body.decode("utf-8", errors="backslashreplace")


def _json(station: Station, data: object) -> str:
    return json.dumps(station.redaction.data(data), indent=2, default=str) + "\n"
