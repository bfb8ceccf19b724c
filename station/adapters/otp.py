"""Who a board is, from the four words of its OTP memory.

Pure: words in, an identity out. Promises esptool's own rule (`ESP8266ROM.read_mac`), and that no address is made up: one
that no factory gave is refused, with what was read kept for the record.
"""

from __future__ import annotations

from station.errors import IdentityInvalid
from station.model import Identity, chip_id_from_mac, format_mac

OTP_ADDRESSES = (0x3FF00050, 0x3FF00054, 0x3FF00058, 0x3FF0005C)

_OLD_OUIS = {0: b"\x18\xfe\x34", 1: b"\xac\xd0\x74"}
"""The two OUIs that are not stored but named by a selector byte."""


def identity_from_otp(words: tuple[int, int, int, int]) -> Identity:
    """Return the identity that the words at `OTP_ADDRESSES` name; raises `IdentityInvalid`.

    Beyond esptool's rule a MAC is refused that no factory gave: multicast, or an OUI or a board number of only zeros or
    only ones (words that were never written, or that do not read).
    """
    low, middle, _, high = words
    observed = " ".join(f"{word:08x}" for word in words)
    selector = (middle >> 16) & 0xFF
    if high:
        oui = (high & 0xFFFFFF).to_bytes(3, "big")
    elif selector in _OLD_OUIS:
        oui = _OLD_OUIS[selector]
    else:
        raise IdentityInvalid(f"unknown OUI selector {selector:#04x}", observed)
    number = bytes(((middle >> 8) & 0xFF, middle & 0xFF, low >> 24))
    mac = format_mac(oui + number)
    if oui[0] & 1 or {oui, number} & {bytes(3), b"\xff\xff\xff"}:
        raise IdentityInvalid(f"{mac} is no board's address", mac)
    return Identity(mac=mac, chip_id=chip_id_from_mac(mac), otp_words=words)
