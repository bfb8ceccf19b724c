# mypy: ignore-errors
"""The gc module with the heap of a chip: the interpreter's own would show more than a hundred megabytes.

Runs inside MicroPython. What a program allocates counts from the moment the board has booted.
"""

from gc import *  # noqa: F403 - the rest of the module
from gc import collect as _collect
from gc import mem_alloc as _mem_alloc

from _link import facts

HEAP_BYTES = 37_952
"""The heap of the ESP8266 port: 38 KiB less the collector's tables."""
BOOTED_BYTES = 1_680
LEAST_FREE_BYTES = 2_048
_base = 0
_at_start = 0
_collected = 0


def start_counting():
    """What is allocated now is the firmware's."""
    global _base
    _base = _mem_alloc()


def settle():
    """Called by the host between two programs: let the interpreter collect when control is back there."""
    for _ in range(2):  # an interrupt that is still pending is raised at a jump
        _collect()


def measure():
    """Called by the host after that: what is allocated now is alive."""
    global _at_start, _collected
    _at_start, _collected = _mem_alloc(), 0


def collect():
    """Collect. This interpreter can do so only between programs; until then what this one allocated counts as free."""
    global _collected
    _collected = max(0, _mem_alloc() - _at_start)


def mem_free():
    """Free bytes, as the collector of a chip would leave them; never less than a program needs to say so."""
    used = max(0, _mem_alloc() - _base - _collected)
    return max(LEAST_FREE_BYTES, HEAP_BYTES - facts["heap_lost"] - BOOTED_BYTES - used)


def mem_alloc():
    """Allocated bytes."""
    return HEAP_BYTES - mem_free()
