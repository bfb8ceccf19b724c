"""Recipes: nothing that is damaged, incomplete or ambiguous ever becomes one, and every refusal says what to do."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from station.errors import ConfigurationError, ImageChanged
from station.recipe import (
    FLASH_MODES,
    FLASH_SIZE_CODES,
    PolicySection,
    check_unchanged,
    demands_cold_boot,
    image_for_flash,
    load_recipe,
    new_recipe_text,
    trailer_problem,
    verify_image,
)
from tests.unit.small_image import make_small_image, small_recipe, write_recipe

IMAGE = make_small_image()
SHA256 = hashlib.sha256(IMAGE).hexdigest()


@dataclass(frozen=True)
class Wrong:
    """A recipe text that must be refused: what in it is wrong, and what the refusal must name."""

    text: str
    key: str
    says: str
    fix: str


COLD_BOOT_WRONG = (
    "",
    "sometimes",
    "ALL",
    "first",
    "first ",
    "first 0",
    "first -1",
    "first 1.5",
    "first five",
    "first  5",
    " first 5",
    "first 5 ",
    "every 0",
    "every 05",
    "every 12345678",
    "first 5, every 10",
    "first 5\n",
    "every \u0665",
)
MINIMAL = f'[firmware]\npath = "thing.bin"\nsha256 = "{SHA256}"\n'
WRONG = {
    "syntax": Wrong(f'{MINIMAL}[flash\nmode = "dout"\n', "", "line 4", "correct that line"),
    "unknown section": Wrong(f"{MINIMAL}[flahs]\n", "flahs", "did you mean `flash`", "docs/recipes.md"),
    "unknown key": Wrong(f'{MINIMAL}[flash]\nmood = "dout"\n', "flash.mood", "did you mean `mode`", "docs/recipes.md"),
    "no firmware": Wrong('name = "x"\n', "firmware", "no image", "[firmware]"),
    "no sha256": Wrong('[firmware]\npath = "thing.bin"\n', "firmware", "`sha256`", "docs/recipes.md"),
    "wrong type": Wrong(f"{MINIMAL}[flash]\nmode = 3\n", "flash.mode", "got `int`", "docs/recipes.md"),
    "wrong type in a pair": Wrong(
        f'{MINIMAL}[limits]\nfree_ram_bytes = [1, "x"]\n', "limits.free_ram_bytes[1]", "got `str`", "docs/recipes.md"
    ),
    "half a pair": Wrong(
        f"{MINIMAL}[limits]\nfree_ram_bytes = [1]\n", "limits.free_ram_bytes", "length 2", "docs/recipes.md"
    ),
    "name too long": Wrong(f'name = "{"x" * 101}"\n{MINIMAL}', "name", "length <= 100", "docs/recipes.md"),
    "mode": Wrong(f'{MINIMAL}[flash]\nmode = "fast"\n', "flash.mode", "'fast' is not known", "'dout'"),
    "frequency": Wrong(f'{MINIMAL}[flash]\nfrequency = "41m"\n', "flash.frequency", "'41m' is not known", "'40m'"),
    "trailer": Wrong(f'{MINIMAL}trailer = "some"\n', "firmware.trailer", "'some' is not known", "'none'"),
    "sha256 too short": Wrong(
        '[firmware]\npath = "thing.bin"\nsha256 = "abc"\n', "firmware.sha256", "not 64 hex digits", "sha256sum"
    ),
    "another sha256": Wrong(
        f'[firmware]\npath = "thing.bin"\nsha256 = "{"0" * 64}"\n', "firmware.sha256", f"has sha256 {SHA256}", "fetch"
    ),
    "limits upside down": Wrong(
        f"{MINIMAL}[limits]\ncpu_frequency_hz = [160, 80]\n", "limits.cpu_frequency_hz", "160 is above 80", "lowest"
    ),
    "no image": Wrong(
        f'[firmware]\npath = "other.bin"\nsha256 = "{SHA256}"\n', "", "No such file or directory", "readable file"
    ),
    "directory for an image": Wrong(
        f'[firmware]\npath = "."\nsha256 = "{SHA256}"\n', "", "Is a directory", "readable file"
    ),
    "no flash size": Wrong(
        f"{MINIMAL}minimum_flash_bytes = 1000000\n", "firmware.minimum_flash_bytes", "1000000", "1048576"
    ),
    "negative flash size": Wrong(
        f"{MINIMAL}minimum_flash_bytes = -1\n", "firmware.minimum_flash_bytes", "-1", "524288"
    ),
    "no attempts": Wrong(f"{MINIMAL}[policy]\nattempts = 0\n", "policy.attempts", ">= 1", "docs/recipes.md"),
    "attempts without end": Wrong(
        f"{MINIMAL}[policy]\nattempts = 101\n", "policy.attempts", "<= 100", "docs/recipes.md"
    ),
    "half an attempt": Wrong(
        f"{MINIMAL}[policy]\nattempts = 1.5\n", "policy.attempts", "got `float`", "docs/recipes.md"
    ),
    "repeat": Wrong(f'{MINIMAL}[policy]\nrepeat = "always"\n', "policy.repeat", "'always'", "docs/recipes.md"),
    "run mode board": Wrong(
        f'{MINIMAL}[policy]\nrun_mode_board = "flash"\n', "policy.run_mode_board", "'flash'", "docs/recipes.md"
    ),
    "unknown policy": Wrong(f"{MINIMAL}[policy]\nretries = 3\n", "policy.retries", "`retries`", "docs/recipes.md"),
    **{
        f"cold boot {text!r}": Wrong(
            f"{MINIMAL}[policy]\ncold_boot = {json.dumps(text)}\n",
            "policy.cold_boot",
            "is not known",
            '"first N" or "every K"',
        )
        for text in COLD_BOOT_WRONG
    },
    "less flash than the build needs": Wrong(
        f"{MINIMAL}minimum_flash_bytes = 524288\n", "firmware.minimum_flash_bytes", "524288", "1048576"
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_names_file_key_problem_and_fix(tmp_path: Path, case: str) -> None:
    """Whoever wrote the recipe reads which file, which key, what is wrong and what to write instead."""
    wrong = WRONG[case]
    path = write_recipe(tmp_path, IMAGE)
    path.write_text(wrong.text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        load_recipe(path)
    error = refused.value
    assert error.key == wrong.key
    assert str(path) in error.file
    assert wrong.says in error.problem
    assert wrong.fix in error.fix
    assert str(error).count("\n") == 0


def test_a_recipe_that_is_not_text_is_refused(tmp_path: Path) -> None:
    """A binary file in place of the recipe is named with the byte where it stops being text."""
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"name = \xff")
    with pytest.raises(ConfigurationError, match=r"recipe\.toml: not UTF-8 text \(byte 7\)\. Fix: save"):
        load_recipe(path)


def test_a_recipe_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing recipe is a message about that path, not a traceback."""
    with pytest.raises(ConfigurationError, match=r"none\.toml cannot be read \(No such file or directory\)"):
        load_recipe(tmp_path / "none.toml")


def test_a_minimal_recipe_gets_everything_else_from_the_image(tmp_path: Path) -> None:
    """Path and sha256 are enough: name from the file, version and smallest flash from the image, dout at 40 MHz."""
    recipe = load_recipe(write_recipe(tmp_path, IMAGE))
    assert (recipe.name, recipe.version, recipe.firmware_version) == ("thing", "1", "1.27.0")
    assert (recipe.minimum_flash_bytes, recipe.has_filesystem) == (1 << 20, True)
    assert (recipe.flash_mode, recipe.flash_frequency) == ("dout", "40m")
    assert recipe.image == IMAGE
    assert recipe.firmware_sha256 == SHA256
    assert recipe.hash == hashlib.sha256(recipe.canonical.encode()).hexdigest()
    assert recipe.short_hash == recipe.hash[:8]


@pytest.mark.parametrize(
    ("variant", "flash_bytes", "has_filesystem"),
    [("512K", 512 << 10, False), ("1M", 1 << 20, True), ("2M", 2 << 20, True)],
)
def test_the_build_says_which_flash_it_needs(
    tmp_path: Path, variant: str, flash_bytes: int, *, has_filesystem: bool
) -> None:
    """The machine name in the image gives the smallest flash, and the 512K build has no filesystem to test (D-6, D-7)."""
    recipe = small_recipe(tmp_path, variant=variant)
    assert (recipe.minimum_flash_bytes, recipe.has_filesystem) == (flash_bytes, has_filesystem)


def test_asking_for_more_flash_does_not_give_the_512k_build_a_filesystem(tmp_path: Path) -> None:
    """The build decides whether there is a filesystem, not the flash the recipe asks for."""
    recipe = small_recipe(tmp_path, "minimum_flash_bytes = 4194304\n", variant="512K")
    assert (recipe.minimum_flash_bytes, recipe.has_filesystem) == (4 << 20, False)


def test_an_early_build_may_be_let_onto_one_megabyte(tmp_path: Path) -> None:
    """Builds before 1.13 name no size and ran on 1 MiB too; the recipe may say so, and the filesystem is tested there."""
    recipe = small_recipe(tmp_path, "minimum_flash_bytes = 1048576\n", variant="2M", version="1.9.4")
    assert (recipe.minimum_flash_bytes, recipe.has_filesystem) == (1 << 20, True)


def test_an_image_without_machine_name_needs_the_next_flash_size(tmp_path: Path) -> None:
    """Another firmware needs the smallest flash it fits into, unless the recipe says more."""
    image = make_small_image(variant="", size_bytes=300 << 10)
    assert load_recipe(write_recipe(tmp_path, image)).minimum_flash_bytes == 512 << 10


@pytest.mark.parametrize("version", ["1.27.0", "1.9.4", "1.20", "1.28.0-preview.12.gabc1234"])
def test_the_version_is_read_from_the_image(tmp_path: Path, version: str) -> None:
    """What the image says of its version is what the board must say later, unless the limits name another."""
    assert small_recipe(tmp_path, version=version).firmware_version == version
    demanded = small_recipe(tmp_path, '[limits]\nfirmware_version = "9.9"\n', version=version)
    assert demanded.firmware_version == "9.9"


# -- the image is whole ------------------------------------------------------------------------------------------------


@given(position=st.integers(min_value=0, max_value=len(IMAGE) * 8 - 1))
def test_one_flipped_bit_anywhere_is_refused(position: int) -> None:
    """A single wrong bit in the image, wherever it is, is found by the sha256 before anything else looks at it."""
    damaged = bytearray(IMAGE)
    damaged[position // 8] ^= 1 << position % 8
    with pytest.raises(ConfigurationError, match="the recipe says"):
        verify_image(bytes(damaged), sha256=SHA256, trailer="micropython", file="thing.bin", recipe=Path("r.toml"))


@given(position=st.integers(min_value=4 * 8, max_value=len(IMAGE) * 8 - 1))
def test_one_flipped_bit_is_refused_by_the_trailer_alone(position: int) -> None:
    """Also when sha256 was taken of the damaged file: MicroPython's own trailer does not hold any more (D-9)."""
    damaged = bytearray(IMAGE)
    damaged[position // 8] ^= 1 << position % 8
    sha256 = hashlib.sha256(damaged).hexdigest()
    with pytest.raises(ConfigurationError, match="not a complete MicroPython image"):
        verify_image(bytes(damaged), sha256=sha256, trailer="micropython", file="thing.bin", recipe=Path("r.toml"))


@given(length=st.integers(min_value=0, max_value=len(IMAGE) - 1))
def test_a_truncated_image_is_refused(length: int) -> None:
    """However much of the image is missing at the end, it is refused by its trailer, its header or its length."""
    cut = IMAGE[:length]
    sha256 = hashlib.sha256(cut).hexdigest()
    with pytest.raises(ConfigurationError, match=r"bytes long|not a complete"):
        verify_image(cut, sha256=sha256, trailer="micropython", file="thing.bin", recipe=Path("r.toml"))


def test_a_truncated_download_is_told_by_its_own_length() -> None:
    """The image knows how long it should be, and the refusal says both lengths."""
    assert trailer_problem(IMAGE[:-100]) == (
        f"the image says it is {len(IMAGE)} bytes long, the file has {len(IMAGE) - 100}"
    )
    assert trailer_problem(IMAGE) == ""


def test_the_header_bytes_that_flashing_changes_are_not_under_the_trailer() -> None:
    """Flash mode and size are set per board after the check; MicroPython's MD5 leaves the first four bytes out."""
    assert trailer_problem(b"\xe9\x03\x03\x40" + IMAGE[4:]) == ""


def test_an_image_without_trailer_needs_to_be_accepted_on_purpose(tmp_path: Path) -> None:
    """An early MicroPython is refused with the line to write, and accepted with exactly that line."""
    image = make_small_image(trailer=False)
    with pytest.raises(ConfigurationError) as refused:
        load_recipe(write_recipe(tmp_path, image))
    assert 'firmware.trailer = "none"' in refused.value.fix
    assert load_recipe(write_recipe(tmp_path, image, 'trailer = "none"\n')).image == image


def test_what_is_no_firmware_is_refused_even_without_trailer(tmp_path: Path) -> None:
    """A file that does not begin as an ESP8266 image is none, whatever the recipe says."""
    for image, says in ((b"\x7fELF" + bytes(100), "0x7f, not 0xe9"), (b"\xe9", "only 1 bytes long"), (b"", "only 0")):
        with pytest.raises(ConfigurationError, match=says):
            load_recipe(write_recipe(tmp_path, image, 'trailer = "none"\n'))


# -- the hash names the content ----------------------------------------------------------------------------------------


def test_the_hash_does_not_depend_on_where_the_files_lie(tmp_path: Path) -> None:
    """The same recipe in another directory, with the image under another path, is the same recipe."""
    first = load_recipe(write_recipe(tmp_path, IMAGE))
    elsewhere = tmp_path / "elsewhere" / "images"
    elsewhere.mkdir(parents=True)
    shutil.copy(tmp_path / "thing.bin", elsewhere / "renamed.bin")
    moved = elsewhere.parent / "thing.toml"
    moved.write_text(MINIMAL.replace("thing.bin", "images/renamed.bin"), encoding="utf-8")
    assert load_recipe(moved).hash == first.hash
    assert load_recipe(moved).file_sha256 != first.file_sha256


@pytest.mark.parametrize(
    "layout",
    [
        f'# a comment\n\n[firmware]\nsha256 = "{SHA256}"\npath = "thing.bin"\n',
        f'[firmware]\npath = "thing.bin"\nsha256 = "{SHA256.upper()}"\n',
        f'firmware = {{ path = "thing.bin", sha256 = "{SHA256}" }}\n',
        f'{MINIMAL}trailer = "micropython"\n[flash]\nmode = "dout"\n[policy]\nrepeat = "refuse"\n',
        f'version = "1"\nname = "thing"\n{MINIMAL}',
    ],
    ids=["order and comment", "upper case", "inline table", "defaults written out", "name written out"],
)
def test_the_hash_does_not_depend_on_the_layout(tmp_path: Path, layout: str) -> None:
    """Comments, order, case of hex digits and defaults written out make no other product."""
    path = write_recipe(tmp_path, IMAGE)
    first = load_recipe(path).hash
    path.write_text(layout, encoding="utf-8")
    assert load_recipe(path).hash == first


@pytest.mark.parametrize(
    "more",
    [
        'trailer = "none"\n',
        "minimum_flash_bytes = 2097152\n",
        '[flash]\nmode = "dio"\n',
        '[flash]\nfrequency = "80m"\n',
        "[limits]\nfree_ram_bytes = [1, 2]\n",
        '[limits]\nfirmware_version = "1.27.0"\n',
        "[policy]\nattempts = 4\n",
        '[policy]\nrepeat = "flash"\n',
        '[policy]\ncold_boot = "first 5"\n',
        '[policy]\nrun_mode_board = "test"\n',
    ],
)
def test_the_hash_depends_on_everything_that_changes_the_product(tmp_path: Path, more: str) -> None:
    """Any other setting or limit is another recipe."""
    assert load_recipe(write_recipe(tmp_path, IMAGE, more)).hash != load_recipe(write_recipe(tmp_path, IMAGE)).hash


def test_the_hash_depends_on_the_image(tmp_path: Path) -> None:
    """Another image under the same path is another recipe."""
    first = load_recipe(write_recipe(tmp_path, IMAGE))
    other = load_recipe(write_recipe(tmp_path, make_small_image(filling=b"other")))
    assert first.hash != other.hash


def test_a_policy_changes_the_hash_only_where_it_says_something(tmp_path: Path) -> None:
    """A recipe from before there was a policy keeps its hash, and what boards passed under it; another policy is another."""
    plain = load_recipe(write_recipe(tmp_path, IMAGE))
    assert '"policy"' not in plain.canonical
    assert load_recipe(write_recipe(tmp_path, IMAGE, "[policy]\nattempts = 3\n")).hash == plain.hash
    assert load_recipe(write_recipe(tmp_path, IMAGE, "[policy]\nattempts = 4\n")).hash != plain.hash


# -- what a PASS takes beyond the tests --------------------------------------------------------------------------------


def test_without_a_word_known_boards_are_left_alone_and_no_cold_boot_is_asked(tmp_path: Path) -> None:
    """The defaults of `[policy]`: three attempts, never flashed twice, never a second visit, other firmware ignored."""
    policy = small_recipe(tmp_path).policy
    assert policy == PolicySection(attempts=3, repeat="refuse", cold_boot="never", run_mode_board="ignore")
    assert not any(demands_cold_boot(policy, number) for number in range(1, 1000))


def test_a_policy_is_taken_as_it_is_written(tmp_path: Path) -> None:
    """Every key of the section reaches the recipe."""
    text = '[policy]\nattempts = 1\nrepeat = "flash"\ncold_boot = "every 10"\nrun_mode_board = "refuse"\n'
    policy = small_recipe(tmp_path, text).policy
    assert policy == PolicySection(attempts=1, repeat="flash", cold_boot="every 10", run_mode_board="refuse")


@pytest.mark.parametrize(
    ("cold_boot", "demanded"),
    [
        ("never", []),
        ("all", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("first 1", [1]),
        ("first 5", [1, 2, 3, 4, 5]),
        ("first 9999999", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("every 1", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("every 5", [5, 10]),
        ("every 12", [12]),
        ("every 13", []),
    ],
)
def test_a_cold_boot_is_demanded_of_exactly_the_boards_that_are_named(
    tmp_path: Path, cold_boot: str, demanded: list[int]
) -> None:
    """Of twelve boards of a lot, counted from 1: none, all, the first N, or every K-th."""
    policy = small_recipe(tmp_path, f'[policy]\ncold_boot = "{cold_boot}"\n').policy
    assert [number for number in range(1, 13) if demands_cold_boot(policy, number)] == demanded


# -- the header for this flash -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "size_bytes", "header"),
    [
        ("", 512 << 10, "e9030300"),
        ("", 1 << 20, "e9030320"),
        ("", 2 << 20, "e9030330"),
        ("", 4 << 20, "e9030340"),
        ('[flash]\nmode = "qio"\n', 1 << 20, "e9030020"),
        ('[flash]\nmode = "qout"\n', 1 << 20, "e9030120"),
        ('[flash]\nmode = "dio"\nfrequency = "80m"\n', 4 << 20, "e903024f"),
        ('[flash]\nfrequency = "26m"\n', 1 << 20, "e9030321"),
        ('[flash]\nfrequency = "20m"\n', 1 << 20, "e9030322"),
    ],
)
def test_the_header_says_mode_frequency_and_size(tmp_path: Path, more: str, size_bytes: int, header: str) -> None:
    """Bytes 2 and 3 are set as `esptool --flash-size detect` sets them; every other byte stays (D-8)."""
    recipe = small_recipe(tmp_path, more)
    patched = image_for_flash(recipe, size_bytes)
    assert patched[:4].hex() == header
    assert patched[4:] == recipe.image[4:]


@given(mode=st.sampled_from(sorted(FLASH_MODES)), size_bytes=st.sampled_from(sorted(FLASH_SIZE_CODES)))
@settings(max_examples=30)
def test_a_mode_that_is_asked_for_wins_and_nothing_but_the_header_changes(mode: str, size_bytes: int) -> None:
    """The retry with dout writes the same image with another mode byte."""
    with tempfile.TemporaryDirectory() as directory:
        recipe = small_recipe(Path(directory), '[flash]\nmode = "qio"\n')
    patched = image_for_flash(recipe, size_bytes, mode)
    assert patched[2] == FLASH_MODES[mode]
    assert (patched[:2], patched[4:]) == (recipe.image[:2], recipe.image[4:])


# -- nothing changes behind our back -----------------------------------------------------------------------------------


def test_an_unchanged_recipe_is_unchanged(tmp_path: Path) -> None:
    """Files that are still what was loaded are let through, also when they were touched or written anew."""
    recipe = small_recipe(tmp_path)
    (tmp_path / "thing.bin").write_bytes(recipe.image)
    check_unchanged(recipe)


@pytest.mark.parametrize("name", ["thing.bin", "thing.toml"])
def test_a_changed_file_stops_the_line(tmp_path: Path, name: str) -> None:
    """One byte more in the image or in the recipe while the station runs is `ImageChanged`, naming the file (D-10)."""
    recipe = small_recipe(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(b"#")
    with pytest.raises(ImageChanged, match=f"{name} is not what was loaded"):
        check_unchanged(recipe)


@pytest.mark.parametrize("name", ["thing.bin", "thing.toml"])
def test_a_deleted_file_stops_the_line(tmp_path: Path, name: str) -> None:
    """A file that is gone is `ImageChanged` too: nobody can say any more what is being made."""
    recipe = small_recipe(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ImageChanged, match=f"{name} cannot be read any more"):
        check_unchanged(recipe)


def test_a_recipe_cannot_be_changed(tmp_path: Path) -> None:
    """A loaded recipe is frozen, its image included."""
    recipe = small_recipe(tmp_path)
    with pytest.raises(AttributeError):
        recipe.image = b""  # type: ignore[misc]


# -- a new recipe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trailer", [True, False])
@pytest.mark.parametrize("name", ["thing.toml", 'my "best" \\ thing.toml', "Gerät 7.toml"])
def test_a_new_recipe_loads(tmp_path: Path, name: str, *, trailer: bool) -> None:
    """What `station recipe new` writes is a recipe that the station accepts, whatever the files are called."""
    image = make_small_image(trailer=trailer)
    image_path = tmp_path / 'firm"ware.bin'
    image_path.write_bytes(image)
    out = tmp_path / name
    out.write_text(new_recipe_text(image_path, out), encoding="utf-8")
    recipe = load_recipe(out)
    assert (recipe.image, recipe.name) == (image, out.stem)


def test_a_new_recipe_beside_its_image_can_be_moved_with_it(tmp_path: Path) -> None:
    """Image and recipe in one directory are tied by a relative path; an image elsewhere by an absolute one."""
    beside, apart = tmp_path / "beside", tmp_path / "apart"
    beside.mkdir()
    apart.mkdir()
    (beside / "thing.bin").write_bytes(IMAGE)
    for out in (beside / "one.toml", apart / "two.toml"):
        out.write_text(new_recipe_text(beside / "thing.bin", out), encoding="utf-8")
    beside.rename(tmp_path / "moved")
    assert load_recipe(tmp_path / "moved" / "one.toml").image == IMAGE
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_recipe(apart / "two.toml")


def test_no_recipe_is_made_for_what_is_no_firmware(tmp_path: Path) -> None:
    """A wrong file is refused when the recipe is made, not when the first board is plugged in."""
    (tmp_path / "photo.bin").write_bytes(b"\xff\xd8" + bytes(100))
    with pytest.raises(ConfigurationError, match=r"photo\.bin: first byte is 0xff, not 0xe9"):
        new_recipe_text(tmp_path / "photo.bin", tmp_path / "x.toml")


def test_the_trailer_is_where_makeimg_puts_it() -> None:
    """The length word at 0x8ffc counts all but the trailer; the MD5 leaves the first four bytes out (makeimg.py)."""
    assert struct.unpack_from("<I", IMAGE, 0x8FFC) == (len(IMAGE) - 16,)
    assert hashlib.md5(IMAGE[4:-16], usedforsecurity=False).digest() == IMAGE[-16:]
