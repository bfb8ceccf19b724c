"""What the recipe wants of the board's radio when it leaves the bench: set up before the restart, proven after it. Pure.

A fresh MicroPython opens an access point with a public password, a fresh SDK one without any; the SDK keeps both switch and
credentials in flash. WebREPL comes as files: its password, and the two lines of `boot.py` that start it. The code holds
secrets; nothing here keeps them, and no measurement ever is one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from station.recipe import FilesPlan, NetworkSection, Recipe, SourceFile
from station.selftest import Check, between, exactly
from station.selftest.measuring import JSON, TIME

ACCESS_POINT_OFF_CODE = "import network\nnetwork.WLAN(network.AP_IF).active(False)\nprint()\nprint('true')\n"
ACCESS_POINT_CODE = f"{JSON}import network\nprint(json.dumps(network.WLAN(network.AP_IF).active()))\n"
JOIN_SLACK_S = 20.0

# The firmware's own, as its first start writes it (inisetup.py), with WebREPL switched on.
DEFAULT_BOOT_PY = b"import gc\ngc.collect()\n"
_WEBREPL_LINES = b"import webrepl\nwebrepl.start()\n"
# Not in a comment, where the firmware's own boot.py has it.
_STARTS_WEBREPL = re.compile(rb"^[^#\n]*\bwebrepl\.start\(", re.MULTILINE)

_CONNECT_CODE = (
    "import network\nw=network.WLAN(network.STA_IF)\nw.active(True)\nw.connect(@CREDENTIALS@)\nprint()\nprint('true')\n"
)
# Before 1.16 it is called essid.
_SSID_CODE = (
    f"{JSON}import network\nw=network.WLAN(network.STA_IF)\n"
    "try:\n r=w.config('ssid')\nexcept ValueError:\n r=w.config('essid')\n"
    "print(json.dumps(r if w.active() else None))\n"
)
_JOIN_CODE = (
    f"{JSON}{TIME}import network\nw=network.WLAN(network.STA_IF)\nt=time.ticks_ms()\nr=None\n"
    "while r is None and time.ticks_diff(time.ticks_ms(),t)<=@MILLISECONDS@:\n"
    " if w.isconnected():\n"
    "  r=time.ticks_diff(time.ticks_ms(),t)\n"
    " else:\n"
    "  time.sleep(0.05)\n"
    "print()\nprint(json.dumps(r))\n"
)
# listen_s is the server's socket; the password is compared here, so that no hash of a short secret gets on record.
_WEBREPL_CODE = (
    f"{JSON}try:\n import webrepl,webrepl_cfg\n r=webrepl.listen_s is not None and webrepl_cfg.PASS==@PASSWORD@\n"
    "except (ImportError,AttributeError):\n r=False\nprint()\nprint(json.dumps(r))\n"
)


def files_of(recipe: Recipe) -> FilesPlan:
    """Return everything that shall lie on a board, what the network takes included; its own data not yet filled in."""
    return files_with_network(recipe.files, recipe.network)


def files_with_network(plan: FilesPlan, network: NetworkSection) -> FilesPlan:
    """Return `plan` with what WebREPL needs: its password, filled in later, and the lines of `boot.py` that start it.

    A `webrepl_cfg.py` of the recipe's own gives way; a `boot.py` that starts WebREPL already stays as it is.
    """
    if not network.webrepl_secret:
        return plan
    password = f"PASS = ${{secret.{network.webrepl_secret}|quoted}}\n".encode()
    files = {file.path: file for file in plan.files}
    files["webrepl_cfg.py"] = SourceFile(path="webrepl_cfg.py", content=password, fill_in=True)
    boot = files.get("boot.py", SourceFile(path="boot.py", content=DEFAULT_BOOT_PY, fill_in=False))
    if not _STARTS_WEBREPL.search(boot.content):
        ended = boot.content if boot.content.endswith(b"\n") or not boot.content else boot.content + b"\n"
        boot = msgspec.structs.replace(boot, content=ended + _WEBREPL_LINES)
    files["boot.py"] = boot
    stays = tuple(path for path in plan.delete if path not in files)
    return msgspec.structs.replace(plan, files=tuple(files[path] for path in sorted(files)), delete=stays)


def set_up_checks(network: NetworkSection, names: Mapping[str, str]) -> tuple[Check, ...]:
    """Return what sets the radio up, to be run before the restart; `names` has the secrets as `secret.NAME`."""
    checks = []
    if network.access_point == "off":
        checks.append(_order("access_point", ACCESS_POINT_OFF_CODE))
    if network.ssid:
        credentials = [ascii(network.ssid)]
        if network.key_secret:
            credentials.append(ascii(names[f"secret.{network.key_secret}"]))
        checks.append(_order("network", _CONNECT_CODE.replace("@CREDENTIALS@", ",".join(credentials))))
    return tuple(checks)


def proof_checks(network: NetworkSection, names: Mapping[str, str]) -> tuple[Check, ...]:
    """Return what proves it, to be run after the restart; without the password, that WebREPL runs at all."""
    checks = []
    if network.access_point == "off":
        checks.append(
            Check(
                name="access_point",
                code=ACCESS_POINT_CODE,
                answer=bool,
                measure=lambda is_on: (exactly("access_point_off", not is_on, expected=True),),
            )
        )
    if network.ssid:
        checks.append(
            Check(
                name="network_ssid",
                code=_SSID_CODE,
                answer=Annotated[str, msgspec.Meta(max_length=32)] | None,
                measure=lambda ssid: (exactly("network_ssid", ssid, network.ssid),),
            )
        )
    if network.ssid and network.join_within_s:
        checks.append(_join_check(network.join_within_s))
    if network.webrepl_secret:
        password = names.get(f"secret.{network.webrepl_secret}")
        checks.append(
            Check(
                name="webrepl",
                code=_WEBREPL_CODE.replace("@PASSWORD@", "webrepl_cfg.PASS" if password is None else ascii(password)),
                answer=bool,
                measure=lambda runs: (exactly("webrepl", runs, expected=True),),
            )
        )
    return tuple(checks)


def _order(name: str, code: str) -> Check:
    """Something to be done that is measured only after the restart."""
    return Check(name=name, code=code, answer=Literal[True], measure=lambda _: (), radio=True)


def _join_check(within_s: float) -> Check:
    return Check(
        name="network_join",
        code=_JOIN_CODE.replace("@MILLISECONDS@", str(int(within_s * 1000))),
        answer=Annotated[int, msgspec.Meta(ge=0)] | None,
        measure=lambda took_ms: (
            between("network_join", None if took_ms is None else took_ms / 1000, (0, within_s), unit="s"),
        ),
        timeout_s=within_s + JOIN_SLACK_S,
        radio=True,
    )
