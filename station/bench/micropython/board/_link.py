# mypy: ignore-errors
"""The interpreter's way to the hardware of the virtual board: one call, answered by the bench.

Runs inside MicroPython. Values travel as JSON, bytes in hexadecimal (JavaScript objects would come out as proxies, and
real bytes are promised). An error of the hardware is the OSError that a chip's C code would raise.
"""

import json

import _host

facts = json.loads(_host.facts())


def call(operation, *arguments):
    """Ask the bench for `operation`; returns its value, raises OSError with the number it gives."""
    answer = json.loads(_host.call(json.dumps((operation,) + arguments)))
    if "errno" in answer:
        raise OSError(answer["errno"])
    return answer["value"]


def read_bytes(operation, *arguments):
    """The same for an operation whose value is bytes."""
    return bytes.fromhex(call(operation, *arguments))
