"""LittleFS images: what the station writes as sectors is what the virtual board's own LittleFS mounts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from station.adapters.littlefs import make_filesystem
from station.bench.filesystem import FlashFilesystem
from station.bench.flash import NorFlash
from station.layouts import Layout, layout_that_answers

LAYOUT = Layout(first_sector=153, sectors=98)
SMALL = Layout(first_sector=1, sectors=12)
NAMES = st.text(alphabet="abcdefgh_.", min_size=1, max_size=20).filter(lambda name: name.strip("."))


def mounted(layout: Layout, image: bytes) -> FlashFilesystem:
    """The board's own LittleFS over a flash that holds this image in its place."""
    flash = NorFlash(size_bytes=1 << 20, real_size_bytes=1 << 20, jedec_id=0x1440EF, seed=1)
    flash.data[layout.start_bytes : layout.start_bytes + layout.size_bytes] = image
    files = FlashFilesystem(flash, start_sector=layout.first_sector, sectors=layout.sectors)
    files.mount()
    return files


def read(files: FlashFilesystem, path: str) -> bytes:
    """All of one file."""
    handle = files.open(path, "r")
    content = b""
    while piece := files.read(handle, 1000):
        content += piece
    files.close(handle)
    return content


@given(st.dictionaries(NAMES, st.binary(max_size=9000), max_size=6), st.lists(NAMES, unique=True, max_size=3))
def test_what_is_made_is_what_a_board_mounts(files, names):
    """Any files in any directories are there byte for byte, and nothing else is."""
    directories = [name for name in names if name not in files]
    inside = {f"{directory}/{name}": content for directory in directories for name, content in files.items()}
    made = make_filesystem(LAYOUT, files | inside, tuple(directories))
    assert made is not None
    assert len(made) == LAYOUT.size_bytes
    board = mounted(LAYOUT, made)
    assert {entry.name for entry in board.listdir("/")} == {*files, *directories}
    for path, content in (files | inside).items():
        assert read(board, f"/{path}") == content
    for directory in directories:
        assert {entry.name for entry in board.listdir(f"/{directory}")} == set(files)


def test_a_board_can_go_on_writing_where_the_station_began():
    """The filesystem is not only readable: files are added, changed and removed, and another mount sees that."""
    made = make_filesystem(SMALL, {"a": b"1" * 5000, "b": b"2"}, ("lib",))
    assert made is not None
    board = mounted(SMALL, made)
    for number in range(40):
        handle = board.open("/lib/log", "a")
        board.write(handle, b"%02d" % number)
        board.close(handle)
    board.remove("/a")
    board.mount()
    assert read(board, "/lib/log") == b"".join(b"%02d" % number for number in range(40))
    assert [entry.name for entry in board.listdir("/")] == ["b", "lib"]


def test_the_same_files_give_the_same_bytes():
    """Two boards with the same files have the same filesystem."""
    files = {"boot.py": b"import gc\n", "lib/a.py": b"x" * 6000}
    assert make_filesystem(LAYOUT, files, ("lib",)) == make_filesystem(LAYOUT, files, ("lib",))


def test_what_does_not_fit_is_not_made_at_all():
    """One byte more than there is room for, in content or in number of files, and there is no image."""
    assert make_filesystem(SMALL, {"a": b"x" * 30_000}, ()) is not None
    assert make_filesystem(SMALL, {"a": b"x" * 60_000}, ()) is None
    many = {f"{number}": b"x" * 2000 for number in range(30)}
    assert make_filesystem(SMALL, many, ()) is None


def test_the_superblock_says_what_the_station_asks_a_board_for():
    """Name, version 2.0, block size and count: what is made here would be believed when a board shows it."""
    made = make_filesystem(LAYOUT, {}, ())
    assert made is not None
    heads = [made[at : at + 32].hex() for at in (0, 4096)]
    assert layout_that_answers(f'[153,98,"{heads[0]}","{heads[1]}"]'.encode()) == LAYOUT
    assert made[20:24] == b"\0\0\2\0"
