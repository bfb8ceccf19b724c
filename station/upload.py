"""Files on a board through its REPL: the code that lists, writes, hashes, names and removes them, and what it answers.

A file is written under another name, read back and hashed on the board, and gets its own name only when that hash is ours:
what was cut off in between is no file of the recipe. Pure; nothing here talks to a board. The code runs on MicroPython 1.8.7
to 1.27, is printable ASCII whatever the files hold, and prints one JSON value as its last line. It must never print content,
nor the plain hash of a file with the board's own data: a short secret could be guessed from it.
"""

from __future__ import annotations

import binascii
import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import msgspec

from station.errors import ReplGarbage
from station.recipe import FilesPlan

PART_SUFFIX = ".tmp~"
"""Of a file that is being written."""
HELD_SUFFIX = ".held~"
"""Of a file that gets its name after the last check."""
CHUNK_BYTES = 768
"""Content per run; in base64 a line of 1 KiB, small enough for a heap of 20 KB."""
HASHES_PER_RUN = 16

Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]

_JSON = "try:\n import json\nexcept ImportError:\n import ujson as json\n"
_HEX = "try:\n import binascii\nexcept ImportError:\n import ubinascii as binascii\n"
_HASH = "try:\n import hashlib\nexcept ImportError:\n import uhashlib as hashlib\n"
# Paths are relative to the root: where a ROM filesystem is mounted besides, it is no part of what is listed.
_OS = "try:\n import os\nexcept ImportError:\n import uos as os\nos.chdir('/')\n"
_SYNC = "if hasattr(os,'sync'):\n os.sync()\n"
_SAY = "print()\nprint(json.dumps(r))\n"
_HASH_OF = (
    "def hash_of(p,s):\n"
    " h=hashlib.sha256(s)\n"
    " b=bytearray(512)\n"
    " with open(p,'rb') as f:\n"
    "  while 1:\n"
    "   n=f.readinto(b)\n"
    "   if not n:\n"
    "    break\n"
    "   h.update(memoryview(b)[:n])\n"
    " return binascii.hexlify(h.digest()).decode()\n"
)

# Where nothing is mounted MicroPython lists an empty root; a filesystem that is there has blocks.
LIST_CODE = (
    f"{_JSON}{_OS}"
    "try:\n m=os.statvfs('/')[2]\nexcept OSError:\n m=0\n"
    "r=None\n"
    "if m:\n"
    " r=[]\n"
    " t=['']\n"
    " while t:\n"
    "  d=t.pop()\n"
    "  for n in os.listdir(d):\n"
    "   p=d+'/'+n if d else n\n"
    "   k=os.stat(p)[0]&0x4000!=0\n"
    "   r.append([p,k])\n"
    "   if k:\n"
    "    t.append(p)\n"
    f"{_SAY}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the filesystem shall hold until the last check is over: held files under the name they wait under."""

    files: Mapping[str, bytes]
    """Path -> content."""
    directories: tuple[str, ...]
    """Parents before children."""
    absent: frozenset[str]
    """Paths that must not exist, as file or directory."""
    only_these: bool
    """Whether everything else must not exist either."""
    held: Mapping[str, str]
    """Path it waits under -> path it gets."""
    salts: Mapping[str, bytes]
    """Path of a file with the board's own data -> what its hash begins with, fresh each time; the others have none."""

    @property
    def empty(self) -> bool:
        """Whether nothing is asked of the filesystem."""
        return not (self.files or self.directories or self.absent or self.only_these)

    @property
    def hashes(self) -> dict[str, str]:
        """Path -> sha256 of salt and content."""
        return {path: hashlib.sha256(self.salt(path) + content).hexdigest() for path, content in self.files.items()}

    def salt(self, path: str) -> bytes:
        """What the hash of this file begins with."""
        return self.salts.get(path, b"")

    def named(self) -> Target:
        """Return what the filesystem shall hold when the held files have got their names."""
        files = {self.held.get(path, path): content for path, content in self.files.items()}
        salts = {self.held.get(path, path): salt for path, salt in self.salts.items()}
        return replace(self, files=files, salts=salts, absent=self.absent - set(files), held={})

    def removals(self, there: Mapping[str, bool]) -> list[tuple[str, bool]]:
        """Return what of `there` (path -> whether it is a directory) must go: path and kind, children before parents."""
        gone = {path for path, is_directory in there.items() if self._unwanted(path, is_directory=is_directory)}
        gone |= {path for path in there if any(path.startswith(f"{other}/") for other in gone)}
        return [(path, there[path]) for path in sorted(gone, reverse=True)]

    def missing_directories(self, there: Mapping[str, bool]) -> list[str]:
        """Return the directories that are not there yet, parents before children."""
        return [path for path in self.directories if not there.get(path, False)]

    def _unwanted(self, path: str, *, is_directory: bool) -> bool:
        if path in self.files:
            return is_directory
        if path in self.directories:
            return not is_directory
        left_over = path.endswith((PART_SUFFIX, HELD_SUFFIX)) and not is_directory
        return path in self.absent or self.only_these or left_over


def target_of(plan: FilesPlan) -> Target:
    """Return what a plan, the board's own data filled in, asks of the filesystem before the last check."""
    held = {f"{path}{HELD_SUFFIX}": path for path in plan.hold}
    waits = {path: waiting for waiting, path in held.items()}
    filled = [waits.get(file.path, file.path) for file in plan.files if file.fill_in]
    return Target(
        files={waits.get(file.path, file.path): file.content for file in plan.files},
        salts={path: secrets.token_hex(8).encode() for path in filled},
        directories=plan.directories,
        absent=frozenset({*plan.delete, *plan.hold} - {file.path for file in plan.files if file.path not in waits}),
        only_these=plan.delete_others,
        held=held,
    )


def required_measurements(plan: FilesPlan) -> tuple[str, ...]:
    """Return the names of the measurements without which there is no PASS, as far as files are concerned."""
    if target_of(plan).empty:
        return ()
    return ("files_written", "files_hash", "filesystem_layout", *(("files_named",) if plan.hold else ()))


def fingerprint(files: Mapping[str, str | None]) -> str:
    """Return one sha256 for many files: path -> sha256, None for one that is not there."""
    lines = (f"{path}\0{digest or '-'}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_runs(target: Target, paths: Iterable[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield paths and the code that prints the sha256 of each, null for one that cannot be read."""
    ordered = list(paths)
    for start in range(0, len(ordered), HASHES_PER_RUN):
        some = tuple(ordered[start : start + HASHES_PER_RUN])
        asked = ",".join(f"({_quoted(path)},{target.salt(path)!r})" for path in some)
        body = f"r=[]\nfor p,s in [{asked}]:\n try:\n  r.append(hash_of(p,s))\n except OSError:\n  r.append(None)\n"
        yield some, f"{_JSON}{_HEX}{_OS}{_HASH}{_HASH_OF}{body}{_SAY}"


def write_runs(path: str, content: bytes, salt: bytes = b"") -> list[str]:
    """Return the code that writes `content` beside `path`, in order; the last prints what was received and what was stored.

    Each run goes on with what the one before left in the board's memory: a board that restarted knows nothing of it.
    """
    part = _quoted(f"{path}{PART_SUFFIX}")
    opening = (
        f"{_JSON}{_HEX}{_OS}{_HASH}{_HASH_OF}"
        # One that an earlier try left open would write its own content over this one's when it is collected.
        "try:\n f.close()\nexcept (NameError,OSError):\n pass\n"
        f"f=open({part},'wb')\nh=hashlib.sha256({salt!r})\n"
        "def w(d):\n d=binascii.a2b_base64(d)\n h.update(d)\n f.write(d)\n"
    )
    closing = f"f.close()\n{_SYNC}r=[binascii.hexlify(h.digest()).decode(),hash_of({part},{salt!r})]\n{_SAY}"
    runs = [
        f"w({binascii.b2a_base64(content[start : start + CHUNK_BYTES], newline=False)!r})\n"
        for start in range(0, len(content), CHUNK_BYTES)
    ] or [""]
    runs[0] = opening + runs[0]
    runs[-1] += closing
    return runs


def name_code(old: str, new: str) -> str:
    """Return code that gives a file its name; LittleFS replaces in one step what carries it."""
    a, b = _quoted(old), _quoted(new)
    return f"{_JSON}{_OS}try:\n os.rename({a},{b})\nexcept OSError:\n os.remove({b})\n os.rename({a},{b})\n{_SYNC}r=1\n{_SAY}"


def remove_code(gone: Sequence[tuple[str, bool]]) -> str:
    """Return code that removes these files and empty directories, in order."""
    files = "[" + ",".join(f"({_quoted(path)},{int(is_directory)})" for path, is_directory in gone) + "]"
    return f"{_JSON}{_OS}for p,k in {files}:\n (os.rmdir if k else os.remove)(p)\n{_SYNC}r=1\n{_SAY}"


def mkdir_code(paths: Sequence[str]) -> str:
    """Return code that makes these directories, in order."""
    return f"{_JSON}{_OS}for p in {_list(paths)}:\n os.mkdir(p)\n{_SYNC}r=1\n{_SAY}"


# Mounted anew, the filesystem is what lies in the flash, and no program is started as a reset would do.
REMOUNT_CODE = (
    f"{_JSON}{_OS}"
    "try:\n import vfs\nexcept ImportError:\n vfs=os\n"
    "from flashbdev import bdev\n"
    "os.umount('/')\n"
    "vfs.mount(vfs.VfsLfs2(bdev) if hasattr(vfs,'VfsLfs2') else vfs.VfsFat(bdev),'/')\n"
    f"os.chdir('/')\nr=1\n{_SAY}"
)


def listing(payload: bytes) -> dict[str, bool] | None:
    """Return what is there, path -> whether it is a directory; None when nothing is mounted. Raises `ReplGarbage`."""
    found: list[tuple[str, bool]] | None = _answer_of("list of files", payload, list[tuple[Path, bool]] | None)
    return None if found is None else dict(found)


def hashes(paths: Sequence[str], payload: bytes) -> dict[str, str | None]:
    """Return path -> sha256 from what a run of `hash_runs` printed; raises `ReplGarbage`."""
    found: list[str | None] = _answer_of("hashes of files", payload, list[Hex32 | None])
    if len(found) != len(paths):
        raise ReplGarbage(f"{len(found)} hashes for {len(paths)} files")
    return dict(zip(paths, found, strict=True))


def received_and_stored(payload: bytes) -> tuple[str, str]:
    """Return the sha256 of what came over the line, and of what the board reads back; raises `ReplGarbage`."""
    said: tuple[str, str] = _answer_of("end of a file", payload, tuple[Hex32, Hex32])
    return said


def done(payload: bytes) -> None:
    """Raise `ReplGarbage` unless a run that has nothing to say came to its end."""
    if _answer_of("work on files", payload, int) != 1:
        raise ReplGarbage("work on files: it says something else")


def _answer_of(name: str, payload: bytes, answer: Any) -> Any:
    """Return the value in the last line of what a run printed; raises `ReplGarbage` when it is not of type `answer`."""
    lines = payload.strip().splitlines()
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=answer)
    except (msgspec.DecodeError, ValueError) as error:
        raise ReplGarbage(f"{name}: {error}") from None


def _quoted(path: str) -> str:
    """Return a path as a literal of printable ASCII, whatever a board may have called its files."""
    return ascii(path)


def _list(paths: Sequence[str]) -> str:
    return "[" + ",".join(map(_quoted, paths)) + "]"
