# mypy: ignore-errors
"""The board's filesystem as MicroPython mounts it: the files are LittleFS in the flash, reached through the bench.

Runs inside MicroPython. `VfsLfs2` has the surface of the built-in class of that name; a file's bytes are in the flash
when it was flushed or closed, and not before.
"""

import io

from _link import call, facts, read_bytes

CHUNK_BYTES = 2048
AHEAD_BYTES = 256
DIRECTORY = 0x4000
REGULAR = 0x8000


class File(io.IOBase):
    """An open file, binary or text."""

    def __init__(self, handle, binary):
        self._handle = handle
        self._binary = binary
        self._ahead = b""

    def _take(self, length):
        while len(self._ahead) < length:
            wanted = min(max(length - len(self._ahead), AHEAD_BYTES), CHUNK_BYTES)
            more = read_bytes("file.read", self._handle, wanted)
            if not more:
                break
            self._ahead += more
        taken = self._ahead[:length]
        self._ahead = self._ahead[length:]
        return taken

    def _take_all(self):
        parts = [self._ahead]
        self._ahead = b""
        while parts[-1] or len(parts) == 1:
            parts.append(read_bytes("file.read", self._handle, CHUNK_BYTES))
        return b"".join(parts)

    def _give(self, data):
        if self._binary:
            return data
        while True:
            try:
                return str(data, "utf-8")
            except UnicodeError:
                rest = self._take(1)  # the end of a character that was cut
                if not rest:
                    raise
                data += rest

    def read(self, size=-1):
        """At most `size` bytes, or characters' worth of them; all that is left without a size."""
        return self._give(self._take_all() if size is None or size < 0 else self._take(size))

    def readinto(self, buffer):
        """Fill a buffer; returns how many bytes that were."""
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readline(self, size=-1):
        """One line with its end, at most `size` bytes of it."""
        line = b""
        while size < 0 or len(line) < size:
            self._ahead = self._take(AHEAD_BYTES)
            if not self._ahead:
                break
            end = self._ahead.find(b"\n") + 1
            length = end or len(self._ahead)
            if size >= 0:
                length = min(length, size - len(line))
            line += self._take(length)
            if end and line.endswith(b"\n"):
                break
        return self._give(line)

    def readlines(self):
        """All lines that are left."""
        return list(self)

    def write(self, data):
        """Write a string or anything with bytes; returns its length."""
        raw = data.encode() if isinstance(data, str) else bytes(data)
        if self._ahead:
            self.seek(-len(self._ahead), 1)
        for start in range(0, len(raw), CHUNK_BYTES):
            call("file.write", self._handle, raw[start : start + CHUNK_BYTES].hex())
        return len(data)

    def seek(self, offset, whence=0):
        """Move the position and return it."""
        if whence == 1:
            offset -= len(self._ahead)
        self._ahead = b""
        return call("file.seek", self._handle, offset, whence)

    def tell(self):
        """The position."""
        return self.seek(0, 1)

    def flush(self):
        """Write what is held back into the flash."""
        call("file.flush", self._handle)

    def close(self):
        """Flush and give the file back; a second time does nothing."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            call("file.close", handle)

    def ioctl(self, request, argument):
        """What the interpreter's own readers ask: flush (1) and close (4)."""
        if request == 1:
            self.flush()
        elif request == 4:
            self.close()
        return 0

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()


class VfsLfs2:
    """The LittleFS of this board; the block device is always the one in `flashbdev`."""

    def __init__(self, device, readsize=32, progsize=32, lookahead=32, mtime=True):
        if facts["always_corrupt"]:
            raise OSError(84)
        call("files.mount")
        self._here = "/"

    @staticmethod
    def mkfs(device, readsize=32, progsize=32, lookahead=32):
        """Make an empty filesystem."""
        call("files.format")

    def _path(self, path):
        return path if path.startswith("/") else self._here + path

    def mount(self, readonly, mkfs):
        """Called by `vfs.mount()`."""

    def umount(self):
        """Called by `vfs.umount()`: what was not closed or flushed is gone."""
        call("files.unmount")

    def chdir(self, path):
        """Change the current directory."""
        path = self._path(path)
        if path.strip("/") and self.stat(path)[0] != DIRECTORY:
            raise OSError(2)
        self._here = path if path.endswith("/") else path + "/"

    def getcwd(self):
        """The current directory."""
        return self._here if self._here == "/" else self._here[:-1]

    def open(self, path, mode):
        """Open a file."""
        return File(call("file.open", self._path(path), mode), "b" in mode)

    def ilistdir(self, path):
        """Name, type, 0 and size of everything in a directory."""
        for name, is_directory, size in call("files.listdir", self._path(path)):
            yield (name, DIRECTORY if is_directory else REGULAR, 0, size)

    def stat(self, path):
        """Type and size of what is at `path`."""
        is_directory, size = call("files.stat", self._path(path))
        return (DIRECTORY if is_directory else REGULAR, 0, 0, 0, 0, 0, size, 0, 0, 0)

    def statvfs(self, path):
        """Sector size, sectors in all and free."""
        sectors, free = call("files.usage")
        return (4096, 4096, sectors, free, free, 0, 0, 0, 0, 255)

    def mkdir(self, path):
        """Make a directory."""
        call("files.mkdir", self._path(path))

    def remove(self, path):
        """Remove a file."""
        call("files.remove", self._path(path))

    def rmdir(self, path):
        """Remove an empty directory."""
        call("files.remove", self._path(path))

    def rename(self, old, new):
        """Move a file or directory."""
        call("files.rename", self._path(old), self._path(new))
