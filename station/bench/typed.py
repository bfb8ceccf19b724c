"""What a person may type at standard input while `station bench` runs, and how it is read.

Promises to wait without a thread and without polling, and to leave a terminal alone in whose background we run: reading
there would stop the whole program. It must never fail because there is nobody: no standard input is no line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator

COMMANDS: dict[str, str] = {
    "plug SLOT…": "plug programmers in",
    "unplug SLOT…": "pull them out, all in one go",
    "jumper SLOT on|off": "ground GPIO0 or not, from the next time the board gets power",
    "lift SLOT": "take the board out, the programmer stays",
    "seat SLOT [BOARD]": "put a board in; it is called by the slot in which it began",
    "board SLOT [FAULT…]": "put a fresh board in, with these faults; the slot's own board is it from then on",
}
"""What a person may type, and what it does."""
CHUNK_BYTES = 4096
LINE_BYTES = 4096
"""Longer lines are no commands."""


async def typed_lines() -> AsyncIterator[str]:
    """Yield every line until the end of the input; use it in one place only."""
    import asyncio

    if sys.stdin is None:
        return
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        if _is_ours(descriptor):
            chunk = os.read(descriptor, CHUNK_BYTES)
            chunks.put_nowait(chunk)
            if not chunk:
                loop.remove_reader(descriptor)

    try:
        loop.add_reader(descriptor, read)
    except PermissionError:  # a file, or /dev/null: nobody types there
        return
    try:
        rest = b""
        while chunk := await chunks.get():
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-LINE_BYTES:]
            for line in lines:
                yield line.decode(errors="replace")
    finally:
        loop.remove_reader(descriptor)


def _is_ours(descriptor: int) -> bool:
    """Whether this is no terminal, or one whose foreground we are in."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True
