"""The serial line between programmer and chip: how long bytes take, and what bad contact and wrong bauds do to them.

Promises that the same seed corrupts the same bytes. Corruption replaces bytes and never drops them, so that what is
lost is lost by framing, as on a real line.
"""

import random

BITS_PER_BYTE = 10
BAUD_TOLERANCE = 0.03
"""Further apart than this and the receiver reads nonsense."""
USB_OUT_S = 0.0005
"""From the host's write to the line; CH340-like."""
USB_IN_S = 0.0015
"""From the line to the host's read."""
NOISE_BAUD = 460800
"""The baud that `noise@P` is the probability of."""


def byte_s(baud: float) -> float:
    """Seconds that one byte takes."""
    return BITS_PER_BYTE / baud


class Noise:
    """Corrupts the bytes of one direction: some when the contact is bad, all when the bauds do not match.

    What happens to a byte depends on the seed, the direction and how many bytes went before it, never on the pieces
    they come in.
    """

    def __init__(self, seed: int, direction: str) -> None:
        self._dice = random.Random(f"noise {direction} {seed}")  # noqa: S311 - reproducible, not secret

    def corrupt(self, data: bytes, probability: float, baud: float) -> bytes:
        """Flip a bit of each byte with that probability at 460800, falling with the cube of a lower baud."""
        chance = min(1.0, probability * (baud / NOISE_BAUD) ** 3)
        hit = bytearray(data)
        for position in range(len(hit)):
            if self._dice.random() < chance:
                hit[position] ^= 1 << self._dice.randrange(8)
        return bytes(hit)

    def garble(self, data: bytes) -> bytes:
        """What a receiver at another baud makes of this."""
        return bytes(self._dice.getrandbits(8) for _ in data)
