# mypy: ignore-errors
"""Wi-Fi of the virtual board: two interfaces whose settings the SDK keeps in the flash, and a neighbourhood to scan.

Runs inside MicroPython. No radio is emulated: a scan always finds the same networks, a connection succeeds when the
network is one of them and the key is its own. Switches and credentials survive a reset, and a known network is joined by
itself, as on a chip.
"""

from _link import call, facts

STA_IF = 0
AP_IF = 1
STAT_IDLE = 0
STAT_CONNECTING = 1
STAT_WRONG_PASSWORD = 2
STAT_NO_AP_FOUND = 3
STAT_CONNECT_FAIL = 4
STAT_GOT_IP = 5
AUTH_OPEN = 0
AUTH_WEP = 1
AUTH_WPA_PSK = 2
AUTH_WPA2_PSK = 3
AUTH_WPA_WPA2_PSK = 4
MODE_11B = 1
MODE_11G = 2
MODE_11N = 3

_on_the_air = [
    (name.encode(), bytes.fromhex(bssid), channel, rssi, security, False)
    for name, bssid, channel, rssi, security, _ in facts["air"]
]
_keys = {name: key for name, _, _, _, _, key in facts["air"]}
_settings = call("radio.settings")
_names = {"essid": "ssid", "authmode": "security", "password": "key"}
_hostname = "mpy-esp8266"
_connection = {"status": STAT_IDLE}


def _keep(name, value):
    if _settings[name] != value:
        _settings[name] = value
        call("radio.keep", _settings)


class WLAN:
    """One interface: the station (STA_IF) or the access point (AP_IF)."""

    IF_STA = STA_IF
    IF_AP = AP_IF
    SEC_OPEN = AUTH_OPEN
    SEC_WPA_WPA2 = AUTH_WPA_WPA2_PSK
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    def __init__(self, interface=STA_IF):
        if interface not in (STA_IF, AP_IF):
            raise ValueError
        self._is_ap = interface == AP_IF
        self._active = "ap_active" if self._is_ap else "sta_active"

    def active(self, on=None):
        """Whether the interface is up; switches it."""
        if on is None:
            return _settings[self._active]
        if on:
            call("radio.start")
            if facts["radio_dead"]:
                return None
        _keep(self._active, bool(on))
        return None

    def config(self, name=None, **values):
        """Read one setting by name, or set several."""
        if name is None:
            for key, value in values.items():
                self._configure(_names.get(key, key), value)
            return None
        name = _names.get(name, name)
        if name == "mac":
            return bytes.fromhex(facts["ap_mac" if self._is_ap else "sta_mac"])
        if name in ("hostname", "dhcp_hostname"):
            return hostname()
        if name == "ssid" and not self._is_ap:
            return _settings["sta_ssid"]
        if name in ("ssid", "security", "channel", "hidden") and self._is_ap:
            return _settings["ap_" + name]
        raise ValueError("unknown config param")

    def _configure(self, name, value):
        if name in ("hostname", "dhcp_hostname"):
            hostname(value)
        elif name in ("mac", "pm", "txpower", "protocol"):
            pass
        elif not self._is_ap:
            raise OSError("AP required")
        elif name not in ("ssid", "key", "security", "channel", "hidden"):
            raise ValueError("unknown config param")
        elif not _settings["ap_active"]:
            # An access point that a former firmware has switched off: the reason why first boots fail on used boards.
            raise OSError("can't set AP config")
        else:
            _keep("ap_" + name, value.decode() if isinstance(value, bytes) else value)

    def _needs_station(self):
        if self._is_ap:
            raise OSError("STA required")

    def scan(self):
        """What is on the air: name, BSSID, channel, RSSI, security, hidden."""
        self._needs_station()
        if not self.active():
            raise OSError("STA must be active")
        return list(_on_the_air)

    def connect(self, ssid=None, key=None, *, bssid=None):
        """Join a network; it succeeds at once or never."""
        self._needs_station()
        if ssid is not None:
            _keep("sta_ssid", ssid.decode() if isinstance(ssid, bytes) else ssid)
            _keep("sta_key", (key.decode() if isinstance(key, bytes) else key) or "")
        self.join()

    def join(self):
        """Join the network that is kept in the flash; what the SDK does at its start too."""
        if not self.active() or _settings["sta_ssid"] not in _keys:
            _connection["status"] = STAT_NO_AP_FOUND
        elif _keys[_settings["sta_ssid"]] not in (None, _settings["sta_key"]):
            _connection["status"] = STAT_WRONG_PASSWORD
        else:
            _connection["status"] = STAT_GOT_IP

    def disconnect(self):
        """Leave the network."""
        self._needs_station()
        _connection["status"] = STAT_IDLE

    def isconnected(self):
        """Whether there is a connection with an address."""
        return self.active() and _connection["status"] == STAT_GOT_IP

    def status(self, name=None):
        """The state of the connection, or its RSSI."""
        if name == "rssi":
            return _on_the_air[0][3] if self.isconnected() else 31
        return -1 if self._is_ap else _connection["status"]

    def ifconfig(self, values=None):
        """Address, mask, gateway and name server."""
        if self._is_ap:
            return ("192.168.4.1", "255.255.255.0", "192.168.4.1", "0.0.0.0")
        if self.isconnected():
            return ("192.0.2.7", "255.255.255.0", "192.0.2.1", "192.0.2.1")
        return ("0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0")


if _settings["sta_active"] and _settings["sta_ssid"]:
    WLAN(STA_IF).join()


def hostname(name=None):
    """The name the station gives to DHCP; sets it."""
    global _hostname
    if name is None:
        return _hostname
    _hostname = name
    return None


def country(code=None):
    """The regulatory domain."""
    return "XX"


def phy_mode(mode=None):
    """802.11n, whatever is asked for."""
    return MODE_11N if mode is None else None
