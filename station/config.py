"""The station's configuration: TOML into frozen structs, read once at start and passed on.

Every error names file, key, what is wrong and what to write instead (`ConfigurationError`, exit 78). Unknown keys are errors.
`docs/configuration.md` describes each key; a test keeps the two in step. Importing this module reads nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from station.errors import ConfigurationError
from station.properties import Gpio0, Moves, Reset, Role, SlotProperties, refusal
from station.recipe import parse_toml, read_file

# CH340 family bound by the kernel's ch341 driver, then WCH's CDC-ACM parts (components.md §5, modinfo ch341 of Debian 6.1).
DEFAULT_USB_IDS = (
    "1a86:7523",
    "1a86:7522",
    "1a86:5523",
    "4348:5523",
    "9986:7523",
    "2184:0057",
    "1a86:55d4",
    "1a86:55d3",
    "1a86:55d2",
    "1a86:55d5",
    "1a86:55d8",
    "1a86:55d7",
    "1a86:55df",
)
DEFAULT_BAUD_LADDER = (460_800, 230_400, 115_200)
SLOT_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,15}")
_USB_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")

# `inf` is a number in TOML; a wait without an end would leave a hung board its slot for ever.
_DAY_S = 86_400.0
Positive = Annotated[float, msgspec.Meta(gt=0, le=_DAY_S)]
NotNegative = Annotated[float, msgspec.Meta(ge=0.0, le=_DAY_S)]


class StationSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[station]`: who and where we are."""

    id: str = ""
    """Name of this station in every record; default: the host name."""
    state_dir: str = "/var/lib/station"
    operator: str = ""
    supplier_batch: str = ""


class UsbSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[usb]`: which adapters are programmers."""

    ids: tuple[str, ...] = DEFAULT_USB_IDS
    excluded: tuple[str, ...] = ()
    """Places (ID_PATH) that are never programmers: a USB tower light may carry the CH340's own id."""
    enroll: Literal["never", "auto"] = "never"
    """`auto`: a programmer in an unknown place becomes the next free slot by itself."""
    reconcile_s: Positive = 3.0


class SlotSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One slot of `[slots]`, written as a table; what is not written is that of `[slot_defaults]`."""

    place: str | None = None
    """The ID_PATH of its socket; without it the one that `station slots teach` wrote."""
    reset: Reset | None = None
    gpio0: Gpio0 | None = None
    moves: Moves | None = None
    role: Role | None = None


class SlotDefaultsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[slot_defaults]`: what every slot is unless `[slots]` says otherwise, taught and enrolled ones included."""

    reset: Reset | None = None
    """None: found out with the first board, and remembered."""
    gpio0: Gpio0 | None = None
    moves: Moves = Moves.PROGRAMMER
    role: Role = Role.MAKE


class WorkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[work]`: what to make, and under whose order."""

    recipe: str = ""
    require_lot: bool = False
    values: str = ""
    """Directory of the CSV files with pre-assigned values that recipes name; empty: none."""
    secrets: str = ""
    """Directory with a file for each secret; empty: what systemd's `LoadCredential=` gives."""
    require_release: bool = False
    """Only a recipe that a person released opens a lot. One that is withdrawn stops the bench, whatever stands here."""
    signers: tuple[Annotated[str, msgspec.Meta(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")], ...] = ()
    """Public keys (`ed25519:BASE64`); with any of them, only bundles that one of them signed are accepted."""
    shifts: tuple[Annotated[str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")], ...] = ()
    """When shifts begin, local time: proofs that the recipe demands hold until the next one; none: for the lot."""
    quarantine_after: Annotated[int, msgspec.Meta(ge=0, le=100)] = 5
    """So many different boards in a row that do not pass take their slot out of use, if its siblings do well; 0: never."""


class FlashingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[flashing]`: how fast, and how long before we give up."""

    baud_ladder: tuple[int, ...] = DEFAULT_BAUD_LADDER
    connect_attempts: Annotated[int, msgspec.Meta(ge=1, le=50)] = 4
    port_busy_s: NotNegative = 10.0
    """So long a port that another process holds is tried again before the slot calls the technician."""
    identity_reads_over_s: NotNegative = 0.3
    progress_deadline_s: Positive = 30.0
    """Without any progress for so long a job ends with `deadline`."""
    job_deadline_s: Positive = 300.0
    boot_deadline_s: Positive = 40.0
    """From reset to prompt; a first boot makes the filesystem."""
    check_deadline_s: Positive = 20.0


class HttpSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[http]`: the operator's page, on loopback."""

    listen: str = "127.0.0.1:8080"


class MetricsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[metrics]`: a second address with the metrics and nothing else."""

    listen: str = ""


class DatabaseSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[database]`: where the records go."""

    url: str = ""
    """SQLAlchemy URL; default: `station.db` in the state directory."""


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[log]`: how much is said, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class LightSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[light]`: LEDs of the Linux LED class, named in /sys/class/leds."""

    green: str = ""
    red: str = ""
    amber: str = ""
    sysfs_dir: str = "/sys/class/leds"
    lamp_test_s: NotNegative = 1.0


class BackupSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[backup]`: the second place for records, configuration, slot map and recipes."""

    directory: str = ""
    """Where backups and the journal of finished jobs go; empty: nowhere, and `station doctor` warns."""
    keep: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 30
    """So many backups stay; older ones are deleted after a new one was read back."""
    warn_after_h: Positive = 26.0
    """A newest backup older than this is a warning in doctor, on the page and in the metrics."""


class LabelSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[label]`: a label for every board that passed, and where the page is that its QR code opens."""

    printer: str = ""
    """`tcp://HOST:9100`, or the path of a device; empty: no labels."""
    on: Literal["pass", "never"] = "pass"
    """`never`: only what `station label print` asks for."""
    size_mm: tuple[Annotated[float, msgspec.Meta(ge=10, le=200)], Annotated[float, msgspec.Meta(ge=10, le=200)]] = (
        50.0,
        25.0,
    )
    """Width and height."""
    dpi: Literal[152, 203, 300, 600] = 203
    template: str = ""
    """A file of ZPL instead of our own label."""
    url: str = ""
    """How phones reach the boards' pages, `http://HOST:PORT`; default: the station's name and the port of `listen`."""
    listen: str = ""
    """A second address with the boards' pages and nothing else."""


class ShutdownSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[shutdown]`: what SIGTERM gives running jobs."""

    finish_s: NotNegative = 20.0
    """So long running jobs may go on before they are aborted."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole configuration, frozen."""

    station: StationSection = StationSection()
    usb: UsbSection = UsbSection()
    slots: Mapping[str, str | SlotSection] = {}
    """`A1 = "ID_PATH"`, or a table; overrides the map that `station slots teach` wrote."""
    slot_defaults: SlotDefaultsSection = SlotDefaultsSection()
    work: WorkSection = WorkSection()
    flashing: FlashingSection = FlashingSection()
    http: HttpSection = HttpSection()
    metrics: MetricsSection = MetricsSection()
    database: DatabaseSection = DatabaseSection()
    log: LogSection = LogSection()
    light: LightSection = LightSection()
    backup: BackupSection = BackupSection()
    label: LabelSection = LabelSection()
    shutdown: ShutdownSection = ShutdownSection()

    @property
    def station_id(self) -> str:
        """The configured name of the station, or the host's."""
        return self.station.id or socket.gethostname()

    @property
    def state_dir(self) -> Path:
        """Where slot map, spool, lock and, by default, the database live."""
        return Path(self.station.state_dir)

    @property
    def database_url(self) -> str:
        """The configured database, or SQLite in the state directory."""
        return self.database.url or f"sqlite:///{self.state_dir / 'station.db'}"

    @property
    def places(self) -> dict[str, str]:
        """Label -> place of the slots whose place is configured."""
        named = {label: slot if isinstance(slot, str) else slot.place for label, slot in self.slots.items()}
        return {label: place for label, place in named.items() if place is not None}

    def slot_section(self, label: str) -> SlotSection:
        """What `[slots]` says of this slot; nothing, for a slot that it does not have."""
        slot = self.slots.get(label, SlotSection())
        return SlotSection(place=slot) if isinstance(slot, str) else slot

    def slot_properties(self, label: str) -> SlotProperties:
        """What the configuration makes of this slot, its defaults included; what it leaves open is None."""
        slot, defaults = self.slot_section(label), self.slot_defaults
        return SlotProperties(
            reset=slot.reset or defaults.reset,
            gpio0=slot.gpio0 or defaults.gpio0,
            moves=slot.moves or defaults.moves,
            role=slot.role or defaults.role,
        )


def load_config(path: Path) -> Config:
    """Read the configuration at `path`; raises `ConfigurationError`."""
    raw = read_file(path, what="configuration")
    try:
        config = parse_toml(path, raw, Config, "see docs/configuration.md for every key")
    except ConfigurationError as error:
        raise _said_better(error, raw) from None
    for key in ("recipe", "values", "secrets"):
        named = getattr(config.work, key)
        if named and not Path(named).is_absolute():
            # A relative path is meant from where the file stands, not from where the daemon was started.
            work = msgspec.structs.replace(config.work, **{key: str((path.parent / named).resolve())})
            config = msgspec.structs.replace(config, work=work)
    template = config.label.template
    if template and not Path(template).is_absolute():
        label = msgspec.structs.replace(config.label, template=str((path.parent / template).resolve()))
        config = msgspec.structs.replace(config, label=label)
    check_config(config, file=str(path))
    return config


def check_config(config: Config, *, file: str) -> None:
    """Check what types cannot say; raises `ConfigurationError` for the first thing found."""
    _check_usb_ids(config, file)
    _check_slots(config, file)
    _check_properties(config, file)
    _check_ladder(config, file)
    _check_directories(config, file)
    _check_listen(config.http.listen, "http.listen", file, loopback_only=True)
    if config.metrics.listen:
        _check_listen(config.metrics.listen, "metrics.listen", file, loopback_only=False)
    _check_label(config.label, file)


def parse_listen(listen: str) -> tuple[str, int]:
    """Return host and port of `host:port` (IPv6 in brackets); raises ValueError."""
    host, separator, port = listen.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise ValueError(f"{listen!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def parse_printer(printer: str) -> tuple[str, int] | None:
    """Return host and port of `tcp://HOST:PORT` (9100 when it is left out), None for a device; raises ValueError."""
    found = re.fullmatch(r"/.+|tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?", printer)
    if found is None or not 0 < (port := int(found[2] or 9100)) < 1 << 16:
        raise ValueError(printer)
    return (found[1].strip("[]"), port) if found[1] else None


def _said_better(error: ConfigurationError, raw: bytes) -> ConfigurationError:
    """The same refusal, with the label of the slot in its key, or with what became of a key of an earlier version."""
    if error.key == "flashing.wiring":
        return ConfigurationError(
            file=error.file,
            key="flashing.wiring",
            problem='replaced by slot_defaults.reset = "none" for "manual"',
            fix='delete the line, and where it said "manual" write reset = "none" in [slot_defaults]; what "auto" meant is'
            " found out with the first board",
        )
    if not error.key.startswith("slots[...]"):
        return error
    label = next(label for label, slot in tomllib.loads(raw.decode("utf-8"))["slots"].items() if not _is_slot(slot))
    key = error.key.replace("slots[...]", f"slots.{label}", 1)
    return ConfigurationError(file=error.file, key=key, problem=error.problem, fix=error.fix)


def _is_slot(written: object) -> bool:
    """Whether the types of one entry of `[slots]` are right."""
    try:
        msgspec.convert(written, str | SlotSection)
    except msgspec.ValidationError:
        return False
    return True


def _check_usb_ids(config: Config, file: str) -> None:
    for usb_id in config.usb.ids:
        if not _USB_ID.fullmatch(usb_id):
            raise ConfigurationError(
                file=file, key="usb.ids", problem=f"{usb_id!r} is no USB id", fix='write it as in lsusb: "1a86:7523"'
            )


def _check_slots(config: Config, file: str) -> None:
    for label in config.slots:
        if not SLOT_LABEL.fullmatch(label):
            raise ConfigurationError(
                file=file,
                key=f"slots.{label}",
                problem="not a slot label",
                fix="a letter, then up to 15 letters, digits, - or _",
            )
    places: dict[str, str] = {}
    for label, place in config.places.items():
        if not place:
            raise ConfigurationError(
                file=file, key=f"slots.{label}", problem="empty place", fix="write the ID_PATH of that socket"
            )
        if place in places:
            raise ConfigurationError(
                file=file,
                key=f"slots.{label}",
                problem=f"the place {place} is already {places[place]}",
                fix="give each slot a place of its own",
            )
        places[place] = label


def _check_properties(config: Config, file: str) -> None:
    """Refuse what makes no sense; the defaults by themselves, too, for they are what a slot that is not named here is."""
    defaults = config.slot_defaults
    common = SlotProperties(reset=defaults.reset, gpio0=defaults.gpio0, moves=defaults.moves, role=defaults.role)
    _check_combination(common, (), key="slot_defaults", file=file)
    for label in config.slots:
        section = config.slot_section(label)
        borrowed = tuple(name for name in ("reset", "gpio0", "role") if getattr(section, name) is None)
        _check_combination(config.slot_properties(label), borrowed, key=f"slots.{label}", file=file)


def _check_combination(properties: SlotProperties, borrowed: tuple[str, ...], *, key: str, file: str) -> None:
    """Raise `ConfigurationError` in the words of `refusal`; `borrowed` names what the slot has from `[slot_defaults]`."""
    reason = refusal(properties)
    if not reason:
        return
    problem, _, fix = reason.partition("; ")
    named = [name for name in borrowed if f"{name} =" in problem]
    source = f" ({' and '.join(named)} from slot_defaults)" if named else ""
    raise ConfigurationError(file=file, key=key, problem=problem + source, fix=fix)


def _check_ladder(config: Config, file: str) -> None:
    ladder = config.flashing.baud_ladder
    if not ladder or list(ladder) != sorted(set(ladder), reverse=True) or min(ladder) < 9600:  # noqa: PLR2004
        raise ConfigurationError(
            file=file,
            key="flashing.baud_ladder",
            problem=f"{list(ladder)} is not a falling list of baud rates of at least 9600",
            fix=f"write for example {list(DEFAULT_BAUD_LADDER)}",
        )


def _check_directories(config: Config, file: str) -> None:
    """Secrets and values lie where nothing is copied from: what is in the state directory itself gets into backups."""
    for key, named in (("work.values", config.work.values), ("work.secrets", config.work.secrets)):
        if named and Path(named).resolve() == config.state_dir.resolve():
            raise ConfigurationError(
                file=file,
                key=key,
                problem=f"{named} is the state directory, whose files are copied into backups",
                fix=f"name a directory of its own, such as {Path(named) / key.partition('.')[2]}",
            )


def _check_label(label: LabelSection, file: str) -> None:
    if label.listen:
        _check_listen(label.listen, "label.listen", file, loopback_only=False)
    url = re.fullmatch(r"https?://[^\s/]+?(?::(\d+))?(?:/\S*)?", label.url)
    for key, written, good, example in (
        ("label.printer", label.printer, _is_printer(label.printer), '"tcp://192.168.1.50:9100" or "/dev/usb/lp0"'),
        ("label.url", label.url, url and 0 < int(url[1] or 1) < 1 << 16, '"http://station.example:8081"'),
    ):
        if written and not good:
            raise ConfigurationError(
                file=file, key=key, problem=f"{written!r} is none", fix=f"write for example {example}"
            )


def _is_printer(written: str) -> bool:
    try:
        parse_printer(written)
    except ValueError:
        return False
    return True


def _check_listen(listen: str, key: str, file: str, *, loopback_only: bool) -> None:
    try:
        host, _ = parse_listen(listen)
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigurationError(
            file=file, key=key, problem=f"{listen!r} is not ADDRESS:PORT", fix='write for example "127.0.0.1:8080"'
        ) from None
    if loopback_only and not address.is_loopback:
        raise ConfigurationError(
            file=file,
            key=key,
            problem=f"{host} is not a loopback address, and the page has no log-in",
            fix='write "127.0.0.1:8080"; for Prometheus in the office set metrics.listen',
        )
