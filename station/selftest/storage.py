"""The checks of the filesystem: written before the one restart of the self-test, hashed after it. Pure.

The content is determined by a seed that is fresh for every run, so the station knows the hash without asking, and a file of
an earlier run proves nothing. What is written is deleted when it has been read back.
"""

from __future__ import annotations

import hashlib
from typing import Annotated

import msgspec

from station.recipe import Recipe
from station.selftest.flash_policy import READ_BACK_SHARE, Treatment, treatment_of
from station.selftest.measuring import HASH, HEX, JSON, OS, Check, Hex32, between, exactly

FILE_BLOCKS, FILE_BLOCK_BYTES = 16, 256
FILL_BLOCK_BYTES = 1024
LARGEST_FILESYSTEM_BYTES = 16 << 20
SECONDS_PER_BLOCK = 0.25
"""A worn flash takes 0.4 s to erase 4 KiB; a board that fills 200 KiB gets 50 s for it, beyond what any check gets."""

FILE_NAMES = ("filesystem_written", "filesystem_hash")
FILL_NAMES = ("filesystem_free", "filesystem_fill_written", "filesystem_fill_hash")

# Everything is on flash after it; MicroPython's soft reset mounts the filesystem anew. Builds for 512 KiB have no umount.
UNMOUNT_CODE = f"{OS}try:\n os.umount('/')\nexcept (OSError,AttributeError):\n pass\n"
RESTART_CODE = "import machine\nmachine.reset()\n"
# What is in an interpreter's memory is gone with it: so a restart that never was is no restart.
MARK_CODE = "station_mark=1\n"
MARKED_CODE = f"{JSON}print(json.dumps('station_mark' in globals()))\n"
FREE_CODE = f"{OS}s=os.statvfs('/')\nprint(s[0]*s[3])\n"

_GENERATOR = "  for j in range(@SIZE@):\n   x=(x*75+74)%65537\n   b[j]=x&255\n"
_WRITE_CODE = (
    f"{JSON}{HEX}{OS}{HASH}h=hashlib.sha256(b'@TOKEN@')\nx=@START@\nb=bytearray({FILE_BLOCK_BYTES})\n"
    "with open('selftest.tmp','wb') as f:\n"
    " f.write(b'@TOKEN@')\n"
    f" for i in range({FILE_BLOCKS}):\n" + _GENERATOR.replace("@SIZE@", str(FILE_BLOCK_BYTES)) + "  h.update(b)\n"
    "  f.write(b)\n"
    "if hasattr(os,'sync'):\n os.sync()\n"
    "print(json.dumps(binascii.hexlify(h.digest()).decode()))\n"
)
_READ_CODE = (
    f"{JSON}{HEX}{OS}{HASH}h=hashlib.sha256()\n"
    "try:\n"
    " with open('@FILE@','rb') as f:\n"
    "  while 1:\n"
    "   b=f.read(@SIZE@)\n"
    "   if not b:\n"
    "    break\n"
    "   h.update(b)\n"
    " os.remove('@FILE@')\n"
    " r=binascii.hexlify(h.digest()).decode()\n"
    "except OSError:\n r=None\n"
    "print(json.dumps(r))\n"
)
FILESYSTEM_READ_CODE = _READ_CODE.replace("@FILE@", "selftest.tmp").replace("@SIZE@", str(FILE_BLOCK_BYTES))
FILL_READ_CODE = _READ_CODE.replace("@FILE@", "fill.tmp").replace("@SIZE@", str(FILL_BLOCK_BYTES))
# One block from the seed, then its number in front of each copy: an interpreter makes 100 KB of noise in minutes only.
# A write that fails, because a flash that wraps has no such room, is a value and not a crash.
_FILL_CODE = (
    f"{JSON}{HEX}{OS}{HASH}h=hashlib.sha256()\nx=@START@\nb=bytearray({FILL_BLOCK_BYTES})\n"
    "if 1:\n" + _GENERATOR.replace("@SIZE@", str(FILL_BLOCK_BYTES)) + "try:\n"
    " with open('fill.tmp','wb') as f:\n"
    "  for i in range(@BLOCKS@):\n"
    "   b[0]=i&255\n   b[1]=i>>8\n"
    "   h.update(b)\n   f.write(b)\n"
    " r=binascii.hexlify(h.digest()).decode()\n"
    "except OSError:\n r=None\n"
    "if hasattr(os,'sync'):\n os.sync()\n"
    "print(json.dumps(r))\n"
)


def filesystem_checks(recipe: Recipe, seed: int) -> tuple[Check, ...]:
    """Return the two checks between which the board is restarted; none where the firmware has no filesystem.

    The first writes a file of 4 KiB that `seed` (64 bits, fresh for each run) determines; the second, after the restart,
    hashes what is there and deletes it.
    """
    if not recipe.has_filesystem:
        return ()
    token, start = f"{seed & (1 << 64) - 1:016x}", seed % 65537
    expected = hashlib.sha256(file_content(seed)).hexdigest()
    return (
        Check(
            name="filesystem_write",
            code=_WRITE_CODE.replace("@TOKEN@", token).replace("@START@", str(start)),
            answer=Hex32,
            measure=lambda value: (exactly("filesystem_written", value, expected),),
        ),
        Check(
            name="filesystem_read",
            code=FILESYSTEM_READ_CODE,
            answer=Hex32 | None,
            measure=lambda value: (exactly("filesystem_hash", value, expected),),
        ),
    )


def fill_share(recipe: Recipe, jedec_id: int | None) -> float:
    """Return how much of what is free is to be filled and read back on a board with this flash chip; 0: nothing.

    More than nothing where the recipe asks for it, and where its flash policy wants this chip read back; of a chip that is
    not known (None) no policy says anything.
    """
    if not recipe.has_filesystem:
        return 0.0
    wanted = recipe.checks.filesystem_fill
    treatment = None if jedec_id is None else treatment_of(recipe.checks.flash_policy, jedec_id)
    return max(
        wanted.share if wanted is not None else 0.0, READ_BACK_SHARE if treatment is Treatment.READ_BACK else 0.0
    )


def free_check(share: float) -> Check:
    """Return the check that asks how many bytes are free: enough for one block at least, and no more than exist."""
    limits = (float(FILL_BLOCK_BYTES) / share, float(LARGEST_FILESYSTEM_BYTES))
    return Check(
        name="filesystem_free",
        code=FREE_CODE,
        answer=Annotated[int, msgspec.Meta(ge=0)],
        measure=lambda value: (between("filesystem_free", value, limits, unit="B"),),
    )


def fill_checks(free_bytes: int, share: float, seed: int) -> tuple[Check, Check]:
    """Return the check that fills `share` of the free bytes, and the one that reads it back after the restart."""
    blocks = int(free_bytes * share) // FILL_BLOCK_BYTES
    expected = fill_hash(blocks, seed)
    timeout_s = 20.0 + blocks * SECONDS_PER_BLOCK
    return (
        Check(
            name="filesystem_fill",
            code=_FILL_CODE.replace("@START@", str(seed % 65537)).replace("@BLOCKS@", str(blocks)),
            answer=Hex32 | None,
            measure=lambda value: (exactly("filesystem_fill_written", value, expected),),
            timeout_s=timeout_s,
        ),
        Check(
            name="filesystem_fill_read",
            code=FILL_READ_CODE,
            answer=Hex32 | None,
            measure=lambda value: (exactly("filesystem_fill_hash", value, expected),),
            timeout_s=timeout_s,
        ),
    )


def file_content(seed: int) -> bytes:
    """Return the bytes that the filesystem check with `seed` writes."""
    token = f"{seed & (1 << 64) - 1:016x}".encode()
    return token + _noise(seed, FILE_BLOCKS * FILE_BLOCK_BYTES)


def fill_hash(blocks: int, seed: int) -> str:
    """Return the sha256 of so many blocks of what the filling check with `seed` writes."""
    block, digest = bytearray(_noise(seed, FILL_BLOCK_BYTES)), hashlib.sha256()
    for number in range(blocks):
        block[:2] = number.to_bytes(2, "little")
        digest.update(block)
    return digest.hexdigest()


def _noise(seed: int, length: int) -> bytes:
    state, made = seed % 65537, bytearray()
    for _ in range(length):
        state = (state * 75 + 74) % 65537
        made.append(state & 255)
    return bytes(made)
