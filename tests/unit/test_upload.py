"""The code that brings files onto a board, on a filesystem in memory: what it does, says, and never leaves behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import upload
from station.errors import ReplGarbage
from station.recipe import FilesPlan, SourceFile
from station.upload import HELD_SUFFIX, PART_SUFFIX, Target, target_of
from tests.unit.file_board import FileSystem, PowerCutError


def plan(files: dict[str, bytes], *, fill_in: Iterable[str] = (), **more) -> FilesPlan:
    """A plan for these files, the directories that they need included."""
    parents = {path.rpartition("/")[0] for path in files if "/" in path}
    sources = tuple(SourceFile(path=path, content=files[path], fill_in=path in fill_in) for path in sorted(files))
    return FilesPlan(files=sources, directories=tuple(sorted(parents)), **more)


def write(board: FileSystem, path: str, content: bytes, salt: bytes = b"") -> tuple[str, str]:
    """Run everything that writes one file."""
    for code in upload.write_runs(path, content, salt):
        said = board.execute(code)
    return upload.received_and_stored(said)


def hash_all(board: FileSystem, target: Target, paths: Iterable[str]) -> dict[str, str | None]:
    """Have the board compute hashes."""
    found: dict[str, str | None] = {}
    for some, code in upload.hash_runs(target, paths):
        found |= upload.hashes(some, board.execute(code))
    return found


@given(
    st.binary(max_size=4 * upload.CHUNK_BYTES), st.text(min_size=1, max_size=30).filter(lambda name: "/" not in name)
)
def test_any_content_arrives_under_any_name(content, name):
    """Whatever a file holds and is called, the code is printable ASCII, and what the board reads back is what was sent."""
    board = FileSystem()
    runs = upload.write_runs(name, content)
    assert all(code.replace("\n", "").isprintable() for code in runs)
    expected = hashlib.sha256(content).hexdigest()
    assert write(board, name, content) == (expected, expected)
    assert board.files == {name + PART_SUFFIX: content}
    upload.done(board.execute(upload.name_code(name + PART_SUFFIX, name)))
    assert board.files == {name: content}


def test_what_the_line_damaged_and_what_the_flash_lost_are_told_apart():
    """The board says what it received and what it reads back: one of them is not ours."""
    content, expected = b"x" * 2000, hashlib.sha256(b"x" * 2000).hexdigest()
    received, stored = write(FileSystem(damage=lambda data: data.replace(b"x", b"y", 1)), "a", content)
    assert received == stored != expected
    received, stored = write(FileSystem(loses=lambda _path: True), "a", content)
    assert received == expected != stored


def test_a_second_try_begins_with_an_empty_file():
    """A file that was left open in the first try does not spoil the second."""
    board = FileSystem()
    first, *_ = upload.write_runs("a", b"x" * 2000)
    board.execute(first)
    expected = hashlib.sha256(b"short").hexdigest()
    assert write(board, "a", b"short") == (expected, expected)
    board.memory.clear()
    assert board.files == {"a" + PART_SUFFIX: b"short"}


def test_a_board_that_restarted_takes_nothing_of_the_rest():
    """The second half of an upload means nothing to a board that forgot the first."""
    board = FileSystem()
    first, second, *_ = upload.write_runs("a", b"x" * 2000)
    board.execute(first)
    board.restart()
    with pytest.raises(NameError):
        board.execute(second)


def test_power_that_goes_at_any_moment_leaves_the_old_file_or_the_new_one():
    """Before any single change of the flash: under its name there is all of the old content or all of the new."""
    old, new, cuts = b"old" * 300, b"new" * 600, 0
    for cut in range(100):
        board = FileSystem(files={"a": old}, cut_before=cut)
        try:
            write(board, "a", new)
            board.execute(upload.name_code("a" + PART_SUFFIX, "a"))
        except PowerCutError:
            assert board.files["a"] == old
            cuts += 1
        else:
            assert board.files == {"a": new}
            break
    assert cuts == 3


def test_the_listing_knows_directories_and_whether_anything_is_mounted():
    """What is there is listed to the last directory; a prompt without a filesystem is not an empty one."""
    board = FileSystem(files={"a": b"", "lib/b": b"", "lib/deep/c": b""}, directories={"lib", "lib/deep"})
    expected = {"a": False, "lib": True, "lib/b": False, "lib/deep": True, "lib/deep/c": False}
    assert upload.listing(board.execute(upload.LIST_CODE)) == expected
    board.mounted = False
    assert upload.listing(board.execute(upload.LIST_CODE)) is None
    assert upload.listing(FileSystem().execute(upload.LIST_CODE)) == {}


def test_hashes_are_asked_for_in_portions_and_of_what_is_not_there_too():
    """Many files take several runs; one that is missing, or a directory, has no hash."""
    files = {f"f{number:02}": bytes([number]) for number in range(40)}
    board = FileSystem(files=dict(files), directories={"lib"})
    target = target_of(plan(files))
    assert hash_all(board, target, files) == target.hashes
    assert len(list(upload.hash_runs(target, files))) == 3
    assert hash_all(board, target, ["none", "lib"]) == {"none": None, "lib": None}


def test_a_file_with_the_boards_own_data_never_shows_its_plain_hash():
    """A short secret could be guessed from it: the hash begins with a salt that is another each time."""
    of_plan = plan({"key": b"hunter2", "same": b"for all"}, fill_in=["key"])
    first, second = target_of(of_plan), target_of(of_plan)
    plain = hashlib.sha256(b"hunter2").hexdigest()
    assert plain not in (first.hashes["key"], second.hashes["key"])
    assert first.hashes["key"] != second.hashes["key"]
    assert first.hashes["same"] == hashlib.sha256(b"for all").hexdigest()
    board = FileSystem()
    expected = first.hashes["key"]
    assert write(board, "key", b"hunter2", first.salt("key")) == (expected, expected)
    upload.done(board.execute(upload.name_code("key" + PART_SUFFIX, "key")))
    assert hash_all(board, first, ["key"]) == {"key": expected}


def test_what_must_go_is_what_the_recipe_says_and_what_was_left_over():
    """Files that are to be deleted, halves of earlier uploads, and things of the wrong kind go, children before parents."""
    there = {"boot.py": False, "old": True, "old/a": False, f"x{PART_SUFFIX}": False, "lib": False, "keep": False}
    target = target_of(plan({"lib/a": b""}, delete=("boot.py", "old")))
    assert target.removals(there) == [
        (f"x{PART_SUFFIX}", False),
        ("old/a", False),
        ("old", True),
        ("lib", False),
        ("boot.py", False),
    ]
    assert target.missing_directories({"keep": False}) == ["lib"]


def test_deleting_the_others_leaves_what_the_recipe_names_and_nothing_else():
    """With `others = "delete"` every file and directory that is not the recipe's must go."""
    there = {"a": False, "lib": True, "lib/b": False, "lib/c": False, "d": True, "d/e": False}
    target = target_of(plan({"a": b"", "lib/b": b""}, delete_others=True))
    assert target.removals(there) == [("lib/c", False), ("d/e", False), ("d", True)]
    board = FileSystem(files={"a": b"1", "lib/b": b"2", "lib/c": b"3", "d/e": b"4"}, directories={"lib", "d"})
    upload.done(board.execute(upload.remove_code(target.removals(there))))
    assert set(board.everything()) == {"a", "lib", "lib/b"}
    upload.done(board.execute(upload.mkdir_code(["new", "new/deep"])))
    assert {"new", "new/deep"} <= board.directories


def test_a_held_file_waits_under_another_name_and_leaves_its_own_free():
    """A program that is held does not lie under its own name before the last check, not even from an earlier visit."""
    target = target_of(plan({"main.py": b"loop", "a": b""}, hold=("main.py",), fill_in=["main.py"]))
    assert set(target.files) == {f"main.py{HELD_SUFFIX}", "a"}
    assert target.removals({"main.py": False, f"main.py{HELD_SUFFIX}": False, "a": False}) == [("main.py", False)]
    named = target.named()
    assert set(named.files) == {"main.py", "a"}
    assert named.salt("main.py") == target.salt(f"main.py{HELD_SUFFIX}") != b""
    assert named.removals({"main.py": False, "a": False}) == []


def test_an_empty_plan_asks_for_nothing_and_any_other_for_evidence():
    """Without files there is no evidence to be had; with a held program its naming is part of it."""
    assert upload.required_measurements(FilesPlan()) == ()
    assert "files_hash" in upload.required_measurements(FilesPlan(delete=("boot.py",)))
    assert "files_named" not in upload.required_measurements(plan({"a": b""}))
    assert "files_named" in upload.required_measurements(plan({"a": b""}, hold=("a",)))


def test_two_sets_of_files_have_the_same_fingerprint_only_when_they_are_the_same():
    """A file that is missing, added, renamed or changed changes it."""
    whole: dict[str, str | None] = {"a": "1", "b": "2"}
    others: list[dict[str, str | None]] = [
        {"a": "1"},
        {"a": "1", "b": None},
        {"a": "2", "b": "1"},
        {"a": "1", "c": "2"},
        whole | {"c": "3"},
    ]
    assert len({upload.fingerprint(each) for each in (whole, *others)}) == len(others) + 1
    assert upload.fingerprint(dict(reversed(whole.items()))) == upload.fingerprint(whole)


@pytest.mark.parametrize("payload", [b"", b"[", b"[[1,true]]", b'[["",true]]', b'[["a"]]', b"5", b'[["a",true,1]]'])
def test_nonsense_is_no_listing(payload):
    """What is not the answer of our code is an error of the conversation, never a list of files."""
    with pytest.raises(ReplGarbage):
        upload.listing(payload)


@pytest.mark.parametrize("payload", [b"", b"[]", b'["xyz"]', b'["' + b"0" * 64 + b'","' + b"0" * 64 + b'"]', b"[1]"])
def test_nonsense_is_no_hash(payload):
    """A hash for each file that was asked for, or none of them counts."""
    with pytest.raises(ReplGarbage):
        upload.hashes(("a",), payload)
    with pytest.raises(ReplGarbage):
        upload.done(payload)
