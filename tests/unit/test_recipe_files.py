"""The files of a recipe: what comes to which path of the board, and everything that a tree may not be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from littlefs import LittleFS

from station.errors import ConfigurationError, ImageChanged
from station.recipe import check_unchanged, load_recipe, path_problem
from station.recipe.sizes import SPARE_BLOCKS, blocks_needed
from tests.unit.recipe_rig import refusal, tree, write_files, written

BOOT = {"boot.py": "# boot\n"}


def test_a_tree_comes_to_the_board_as_it_is(tmp_path: Path) -> None:
    """Files and directories keep path and bytes, sorted, empty directories included."""
    (tmp_path / "files" / "empty" / "deep").mkdir(parents=True)
    recipe = tree(tmp_path, {**BOOT, "lib/sensor.py": "x = 1\n", "data/any.bin": b"\0\xff"})
    assert [(file.path, file.content, file.fill_in) for file in recipe.files.files] == [
        ("boot.py", b"# boot\n", False),
        ("data/any.bin", b"\0\xff", False),
        ("lib/sensor.py", b"x = 1\n", False),
    ]
    assert recipe.files.directories == ("data", "empty", "empty/deep", "lib")
    assert not recipe.files.delete_others
    assert not recipe.files.by_repl


def test_every_key_of_files_reaches_the_plan(tmp_path: Path) -> None:
    """Renaming, filling in, compiling, deleting, holding and the way it goes are all in the plan."""
    recipe = tree(
        tmp_path,
        {"app/main.py": "import lib1\n", "lib1.py": "x = 1\n", "a.json": "{}", "boot.py": ""},
        'rename = { "app/main.py" = "main.py" }\ncompile = ["*.py"]\nfill_in = ["*.json"]\ndelete = ["old.py", "old"]\n'
        'others = "delete"\nmethod = "repl"\nhold = ["main.py"]\n',
    )
    plan = recipe.files
    assert [file.path for file in plan.files] == ["a.json", "boot.py", "lib1.mpy", "main.py"]
    assert [file.path for file in plan.files if file.fill_in] == ["a.json"]
    assert next(file.content for file in plan.files if file.path == "lib1.mpy").startswith(b"M\x06")
    assert plan.directories == ("app",)
    assert (plan.delete, plan.delete_others, plan.by_repl, plan.hold) == (("old.py", "old"), True, True, ("main.py",))


def test_what_the_firmware_starts_by_name_is_never_compiled(tmp_path: Path) -> None:
    """MicroPython starts boot.py and main.py as sources only; a pattern for everything leaves these two as they are."""
    recipe = tree(tmp_path, {**BOOT, "main.py": "x = 1\n", "lib/main.py": "x = 1\n"}, 'compile = ["**/*.py"]\n')
    assert [file.path for file in recipe.files.files] == ["boot.py", "lib/main.mpy", "main.py"]


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "d/b.txt", "d/e/c.txt"]),
        ("d/*", ["d/b.txt", "d/x+.bin"]),
        ("d/**", ["d/b.txt", "d/e/c.txt", "d/x+.bin"]),
        ("?.txt", ["a.txt"]),
        ("d/x+.bin", ["d/x+.bin"]),
        ("**/e/*", ["d/e/c.txt"]),
    ],
)
def test_patterns_choose_by_path(tmp_path: Path, pattern: str, chosen: list[str]) -> None:
    """One star stays within a name, two cross directories, everything else is meant literally."""
    recipe = tree(
        tmp_path,
        {**dict.fromkeys(("a.txt", "d/b.txt", "d/e/c.txt", "d/x+.bin"), ""), **BOOT},
        f'fill_in = ["{pattern}"]\n',
    )
    assert [file.path for file in recipe.files.files if file.fill_in] == chosen


@pytest.mark.parametrize(
    ("files", "more", "key", "says"),
    [
        ({}, 'compile = ["lib/*.py"]\n', "files.compile", "names no file of the tree"),
        ({"sensor.py": ""}, 'fill_in = ["sensr.py"]\n', "files.fill_in", "did you mean `sensor.py`"),
        ({"a.txt": ""}, 'compile = ["a.txt"]\n', "files.compile", "'a.txt' is no .py file"),
        ({"a.py": ""}, 'compile = ["a.py"]\nfill_in = ["*.py"]\n', "files.compile", "'a.py' is filled in as well"),
        ({"a.py": ""}, 'rename = { "b.py" = "c.py" }\n', "files.rename", "'b.py' is no file of the tree"),
        ({"a.py": ""}, 'rename = { "a.py" = "../c.py" }\n', "files.rename", "'..' is no name"),
        ({"a.py": "", "c.py": ""}, 'rename = { "a.py" = "c.py" }\n', "files.rename", "two files become 'c.py'"),
        ({"a.py": "", "a.mpy": b"M\x06\x00\x1f"}, 'compile = ["a.py"]\n', "files.rename", "two files become 'a.mpy'"),
        ({"a.py": "", "d/x": ""}, 'rename = { "a.py" = "d" }\n', "files.rename", "'d' is file and directory"),
        ({"a.py": ""}, 'compile = ["a.py"]\nrename = { "a.py" = "a" }\n', "files.rename", "does not end in .py"),
        ({"a.py": ""}, 'hold = ["b.py"]\n', "files.hold", "'b.py' is no file of the tree"),
        ({"a.py": ""}, 'hold = ["/a.py"]\n', "files.hold", "from the board's root"),
        ({"a.py": ""}, 'delete = ["a.py"]\n', "files.delete", "is brought to the board and deleted"),
        ({"d/a.py": ""}, 'delete = ["d"]\n', "files.delete", "is brought to the board and deleted"),
        ({"a.py": ""}, 'delete = ["a/./b"]\n', "files.delete", "'.' is no name"),
        ({"__pycache__/a.pyc": b""}, "", "files.tree", "'__pycache__' is a leaving of another program"),
        ({"lib/a.py~": b""}, "", "files.tree", "'lib/a.py~' is a leaving of another program"),
        ({"grün.py": ""}, "", "files.tree", "beyond printable ASCII"),
        ({"a\nb": ""}, "", "files.tree", "beyond printable ASCII"),
        ({"a\\b": ""}, "", "files.tree", "backslash"),
        ({" a": ""}, "", "files.tree", "a space at an end"),
        ({"x" * 61: ""}, "", "files.tree", "longer than 60 characters"),
        ({"/".join(["x" * 50] * 3): ""}, "", "files.tree", "longer than 120 characters"),
    ],
)
def test_what_makes_no_sense_of_files_is_refused(
    tmp_path: Path, files: dict[str, str | bytes], more: str, key: str, says: str
) -> None:
    """Slips in names, patterns and places are found when the recipe is loaded, with the key that holds them."""
    named = {f"files/{name}": content for name, content in {**files, **BOOT}.items()}
    error = refusal(written(tmp_path, f'[files]\ntree = "files"\n{more}', named))
    assert error.key == key
    assert says in str(error).replace("\\n", " ")


@pytest.mark.parametrize(
    ("path", "good"), [("a", True), ("lib/a b.py", True), ("a.tmp~", False), ("", False), ("a/", False)]
)
def test_paths_on_the_board(path: str, *, good: bool) -> None:
    """Only plain relative paths, and none that an upload uses for its half files."""
    assert (path_problem(path) == "") is good


def test_a_tree_is_never_left(tmp_path: Path) -> None:
    """Links, devices and paths out of the recipe's directory are refused: what is shipped lies where the recipe does."""
    outside = tmp_path / "outside"
    write_files(outside, {"secret": "x"})
    for named in ("../outside", str(outside), "link", "missing", "thing.bin"):
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        if not (home / "link").is_symlink():
            (home / "link").symlink_to(outside)
        assert refusal(written(home, f'[files]\ntree = "{named}"\n')).key == "files.tree"
    for number, make in enumerate(
        (lambda path: path.symlink_to("boot.py"), lambda path: path.symlink_to(outside), os.mkfifo)
    ):
        home = tmp_path / f"home{number}"
        path = written(home, '[files]\ntree = "files"\n', {"files/boot.py": ""})
        make(home / "files" / "odd")
        assert "'odd' is" in refusal(path).problem


def test_a_tree_beyond_any_flash_is_not_read(tmp_path: Path) -> None:
    """A tree that names a whole disk by a slip is refused by its size, before it is read."""
    path = written(tmp_path, '[files]\ntree = "files"\n', {"files/boot.py": ""})
    with (tmp_path / "files" / "disk").open("wb") as disk:
        disk.truncate(1 << 40)
    assert "more than any board can" in refusal(path).problem


def test_keys_of_a_tree_need_a_tree(tmp_path: Path) -> None:
    """Compiling, filling in, renaming and holding say nothing without files; deleting does."""
    for key in ('compile = ["*.py"]', 'fill_in = ["*"]', 'rename = { "a" = "b" }', 'hold = ["main.py"]'):
        assert refusal(written(tmp_path, f"[files]\n{key}\n")).key == f"files.{key.split(' ')[0]}"
    assert load_recipe(written(tmp_path, '[files]\ndelete = ["boot.py"]\n')).files.delete == ("boot.py",)


# -- what must be said of boot.py --------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", ['delete = ["boot.py"]\n', 'others = "delete"\n', 'method = "repl"\n'])
def test_a_recipe_with_files_says_what_becomes_of_boot_py(tmp_path: Path, more: str) -> None:
    """The firmware makes one only in an empty flash: what lies on the board must not depend on how the files went."""
    with pytest.raises(ConfigurationError, match=r"nothing says what becomes of boot\.py"):
        tree(tmp_path, {"main.py": ""})
    assert [file.path for file in tree(tmp_path, {"main.py": ""}, more).files.files] == ["main.py"]


def test_webrepl_brings_its_own_boot_py(tmp_path: Path) -> None:
    """Where WebREPL is asked for, there will be a boot.py; deleting it is a contradiction."""
    network = '[network]\nwebrepl_secret = "w"\n'
    assert tree(tmp_path, {"main.py": ""}, network).files.files
    with pytest.raises(ConfigurationError, match=r"boot\.py is deleted, and starts WebREPL"):
        tree(tmp_path, {"main.py": ""}, f'delete = ["boot.py"]\n{network}')


# -- the hash, and what is on disk -------------------------------------------------------------------------------------


def test_the_hash_is_that_of_what_comes_to_the_board(tmp_path: Path) -> None:
    """Bytes, paths, filling in, deletions and empty directories make the product; names of patterns and of the tree do not."""
    files = {**BOOT, "a.py": "x = 1\n", "b.json": "{}"}
    first = tree(tmp_path / "0", files).hash
    same = [
        tree(tmp_path / "1", files).hash,
        load_recipe(written(tmp_path / "2", '[files]\ntree = "t/u"\n', {f"t/u/{n}": c for n, c in files.items()})).hash,
        tree(tmp_path / "3", {**BOOT, "z.py": "x = 1\n", "b.json": "{}"}, 'rename = { "z.py" = "a.py" }\n').hash,
    ]
    others = [
        tree(tmp_path / "4", {**files, "a.py": "x = 2\n"}).hash,
        tree(tmp_path / "5", {**files, "c.py": ""}).hash,
        tree(tmp_path / "6", files, 'fill_in = ["b.json"]\n').hash,
        tree(tmp_path / "7", files, 'compile = ["a.py"]\n').hash,
        tree(tmp_path / "8", files, 'delete = ["c.py"]\n').hash,
        tree(tmp_path / "9", files, 'others = "delete"\n').hash,
        tree(tmp_path / "10", files, 'hold = ["a.py"]\n').hash,
        tree(tmp_path / "11", files, 'rename = { "a.py" = "c.py" }\n').hash,
    ]
    (tmp_path / "12" / "files" / "empty").mkdir(parents=True)
    others.append(tree(tmp_path / "12", files).hash)
    assert set(same) == {first}
    assert len({first, *others}) == 1 + len(others)


def test_everything_that_was_read_is_a_part(tmp_path: Path) -> None:
    """Recipe, image, files and checks are listed by the name that they have beside the recipe, and watched on disk."""
    check = {"checks/led.py": "def check():\n    return {}\n"}
    more = '[files]\ntree = "files"\ncompile = ["lib/*"]\n[[check]]\nname = "led"\nfile = "checks/led.py"\n'
    path = written(tmp_path, more, {"files/boot.py": "", "files/lib/a.py": "x = 1\n", **check})
    recipe = load_recipe(path)
    assert {part.name for part in recipe.parts} == {
        "thing.toml", "thing.bin", "files/boot.py", "files/lib/a.py", "checks/led.py",
    }  # fmt: skip
    assert all(Path(part.path) == tmp_path / part.name for part in recipe.parts)
    check_unchanged(recipe)
    for part in recipe.parts:
        before = Path(part.path).read_bytes()
        Path(part.path).write_bytes(before + b"\n")
        with pytest.raises(ImageChanged, match=part.name):
            check_unchanged(recipe)
        Path(part.path).write_bytes(before)
    check_unchanged(recipe)


# -- the size budget ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [
        [0],
        [1, 128, 129],
        [4096, 4097, 8184, 8188, 8192],
        [100_000],
        [100] * 60,
        [120] * 250,
        [3000] * 40,
        list(range(0, 20_000, 997)),
    ],
)
def test_the_estimate_is_never_below_what_littlefs_takes(sizes: list[int]) -> None:
    """Of real filesystems with these files, none uses more blocks than were counted, and few are far below."""
    files = [(f"d{number % 3}/a file of some length {number}.bin", size) for number, size in enumerate(sizes)]
    made = LittleFS(block_size=4096, block_count=98, read_size=32, prog_size=32, cache_size=128, lookahead_size=32)
    for name in ("d0", "d1", "d2"):
        made.mkdir(name)
    for name, size in files:
        with made.open(name, "wb") as file:
            file.write(b"x" * size)
    counted = blocks_needed(files, ("d0", "d1", "d2")) - SPARE_BLOCKS
    assert made.used_block_count <= counted <= made.used_block_count * 1.5 + 8


def test_files_that_do_not_fit_are_refused_by_numbers(tmp_path: Path) -> None:
    """The 1M build has 98 blocks on 1 MiB of flash; the same files fit where the image asks for 2 MiB."""
    files: dict[str, bytes | str] = {**BOOT, "big.bin": b"x" * 380_000}
    with pytest.raises(
        ConfigurationError, match=r"take \d+ blocks of 4 KB, the filesystem of ESP module \(1M\).* has 98"
    ):
        tree(tmp_path, files)
    more = 'minimum_flash_bytes = 2097152\n[files]\ntree = "files"\n'
    assert load_recipe(written(tmp_path, more, {f"files/{name}": data for name, data in files.items()})).files.files
    assert tree(tmp_path, {**BOOT, "big.bin": b"x" * 340_000}).files.files
