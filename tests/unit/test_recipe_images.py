"""Several images in one recipe: the one for the flash that is found is written, and none where none fits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from station.model import CommittedJob, Outcome
from station.reasons import Reason
from station.recipe import image_for_flash, load_recipe
from station.recipe.images import filesystem_blocks
from tests.unit.job_rig import UNTOUCHED, Station, writes
from tests.unit.recipe_rig import refusal, with_images, write_files, written
from tests.unit.scripted_board import ScriptedBoard
from tests.unit.small_image import make_small_image

KIB, MIB = 1 << 10, 1 << 20
ALL = {"2M": "", "512K": "", "1M": ""}


@pytest.mark.parametrize(
    ("size_bytes", "variant"),
    [(512 * KIB, "512K"), (MIB, "1M"), (2 * MIB, "2M"), (4 * MIB, "2M"), (16 * MIB, "2M")],
)
def test_the_largest_image_that_fits_is_taken(tmp_path: Path, size_bytes: int, variant: str) -> None:
    """Whatever order they stand in, a flash gets the image of the build made for it, with everything that is said of it."""
    recipe = load_recipe(with_images(tmp_path, ALL))
    fitting = recipe.for_flash(size_bytes)
    image = make_small_image(variant=variant)  # type: ignore[arg-type]
    assert fitting.image == image
    assert fitting.firmware_sha256 == hashlib.sha256(image).hexdigest()
    assert fitting.machine == ("ESP module with ESP8266" if variant == "2M" else f"ESP module ({variant}) with ESP8266")
    assert fitting.has_filesystem is (variant != "512K")
    assert image_for_flash(fitting, size_bytes)[4:] == image[4:]
    assert (fitting.hash, fitting.images, fitting.parts) == (recipe.hash, recipe.images, recipe.parts)


def test_before_the_flash_is_known_it_is_the_smallest(tmp_path: Path) -> None:
    """So what is too small for it is too small for all, and a flash below all of them changes nothing."""
    recipe = load_recipe(with_images(tmp_path, {"2M": "", "1M": ""}))
    assert recipe.minimum_flash_bytes == MIB
    assert recipe.for_flash(512 * KIB) is recipe
    assert recipe.for_flash(MIB) is recipe


@pytest.mark.parametrize("size_bytes", [512 * KIB, MIB, 2 * MIB])
def test_a_visit_writes_the_image_of_the_boards_flash(tmp_path: Path, size_bytes: int) -> None:
    """The flash holds the right build, and the job's row names that very image."""
    recipe = load_recipe(with_images(tmp_path, ALL))
    board = ScriptedBoard(claimed_bytes=size_bytes, real_bytes=size_bytes)
    shown = Station(recipe).visit(board)
    fitting = recipe.for_flash(size_bytes)
    image = image_for_flash(fitting, size_bytes)
    assert bytes(board.flash)[: len(image)] == image
    assert shown.start.firmware_sha256 == fitting.firmware_sha256


def test_a_flash_that_no_image_fits_is_refused_unwritten(tmp_path: Path) -> None:
    """Too small for the smallest image: not a byte is written, and the words say what is needed."""
    recipe = load_recipe(with_images(tmp_path, {"2M": "", "1M": ""}))
    board = ScriptedBoard(jedec_id=0x1340EF, claimed_bytes=512 * KIB, real_bytes=MIB)
    shown = Station(recipe).visit(board)
    assert isinstance(shown.result, CommittedJob)
    assert (shown.job.outcome, shown.job.reason) == (Outcome.FAIL, Reason.FLASH_TOO_SMALL)
    assert shown.job.detail.startswith("512 KB board, this product needs 1 MB")
    assert writes(board) == 0
    assert bytes(board.flash) == UNTOUCHED


@pytest.mark.parametrize(
    ("variants", "more", "key", "says"),
    [
        ({"1M": "", "": 'minimum_flash_bytes = 1048576\ntrailer = "none"\n'}, "", "image", "both need 1 MB of flash"),
        ({"1M": "", "2M": "minimum_flash_bytes = 1048576\n"}, "", "image", "both need 1 MB"),
        ({"2M": "", "1M": "minimum_flash_bytes = 524288\n"}, "", "image[1].minimum_flash_bytes", "this 1M build needs"),
        ({"1M": "path = 5\n"}, "", "", "TOML syntax"),
        ({"1M": "modul = []\n"}, "", "image[0].modul", "did you mean `modules`"),
        ({"512K": "", "1M": ""}, '[files]\ntree = "files"\n', "files.tree", "512K.bin"),
        ({"512K": ""}, '[files]\nothers = "delete"\n', "files.others", "has no filesystem"),
        ({"512K": "", "1M": ""}, '[files]\ndelete = ["x"]\n', "files.delete", "has no filesystem"),
        ({"512K": ""}, '[network]\nwebrepl_secret = "w"\nssid = "x"\n', "network.webrepl_secret", "has no filesystem"),
        ({"512K": ""}, "[checks.filesystem_fill]\n", "checks.filesystem_fill", "has no filesystem"),
    ],
)
def test_images_that_do_not_go_together_or_with_the_rest_are_refused(
    tmp_path: Path, variants: dict[str, str], more: str, key: str, says: str
) -> None:
    """Two images for one flash, less flash than a build needs, files without a filesystem: refused before any board."""
    error = refusal(with_images(tmp_path, variants, more, {"files/boot.py": ""}))
    assert error.key == key
    assert says in error.problem


def test_one_way_to_name_images(tmp_path: Path) -> None:
    """Both [firmware] and [[image]], or neither, is refused."""
    both = written(tmp_path, '[[image]]\npath = "thing.bin"\nsha256 = "x"\n')
    assert "both [firmware] and [[image]]" in refusal(both).problem
    write_files(tmp_path, {"thing.toml": 'name = "x"\n'})
    assert "no image" in refusal(tmp_path / "thing.toml").problem


def test_the_hash_depends_on_every_image(tmp_path: Path) -> None:
    """One image more, or other modules said of one, is another recipe; their order is not."""
    hashes = [
        load_recipe(with_images(tmp_path / str(number), variants)).hash
        for number, variants in enumerate(({"1M": ""}, {"1M": "", "2M": ""}, {"1M": 'modules = ["x"]\n', "2M": ""}))
    ]
    assert len(set(hashes)) == 3
    assert load_recipe(with_images(tmp_path / "turned", {"2M": "", "1M": ""})).hash == hashes[1]


@pytest.mark.parametrize(
    ("build", "size_bytes", "blocks"),
    [("1M", MIB, 98), ("1M", 2 * MIB, 354), ("2M", 2 * MIB, 250), ("2M", MIB, 0), ("512K", MIB, None), ("", MIB, None)],
)
def test_the_room_of_a_filesystem(build: str, size_bytes: int, blocks: int | None) -> None:
    """From one sector behind the firmware to 20 KiB before the end; unknown where the build is."""
    assert filesystem_blocks(build, size_bytes) == blocks
