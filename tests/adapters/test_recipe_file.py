"""Images put into a recipe that a person wrote: everything else of it stays, and what comes out loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.adapters.recipe_file import with_images
from station.errors import ConfigurationError
from station.recipe import load_recipe
from tests.unit.recipe_rig import with_images as recipe_with_images
from tests.unit.recipe_rig import write_files
from tests.unit.small_image import make_small_image

MIB = 1 << 20


def test_an_image_is_put_into_a_recipe_and_nothing_else_changes(tmp_path: Path) -> None:
    """Comments, order and other keys stay; path and sum are those of the image."""
    write_files(tmp_path, {"a.bin": make_small_image(), "deep/b.bin": make_small_image(filling=b"b")})
    keys = 'path = "old.bin"\nsha256 = "0"\nminimum_flash_bytes = 2097152\n'
    text = f'# mine\nname = "x"  # so\n\n[firmware]\n{keys}[flash]\nmode = "dio"\n'
    path = tmp_path / "r.toml"
    for name in ("a.bin", "deep/b.bin"):
        text = with_images(path, text, [tmp_path / name])
        write_files(tmp_path, {"r.toml": text})
        recipe = load_recipe(path)
        assert recipe.image == (tmp_path / name).read_bytes()
        assert f'path = "{name}"' in text
        assert text.startswith('# mine\nname = "x"  # so\n')
        assert (recipe.minimum_flash_bytes, recipe.flash_mode) == (2 * MIB, "dio")


def test_several_images_become_tables_by_their_flash(tmp_path: Path) -> None:
    """Each image fills the table of its flash size, with the keys that stand there, or gets one of its own."""
    path = recipe_with_images(tmp_path, {"1M": 'modules = ["x"]\n'})
    newer = {v: make_small_image(variant=v, version="1.28.0") for v in ("1M", "2M")}  # type: ignore[arg-type]
    write_files(tmp_path, {f"new{variant}.bin": content for variant, content in newer.items()})
    text = with_images(path, path.read_text(), [tmp_path / "new2M.bin", tmp_path / "new1M.bin"])
    write_files(tmp_path, {"thing.toml": text})
    images = load_recipe(path).images
    assert [(image.content, image.version) for image in images] == [(newer["1M"], "1.28.0"), (newer["2M"], "1.28.0")]
    assert images[0].modules == ("x",)


def test_an_image_without_trailer_is_said_to_have_none(tmp_path: Path) -> None:
    """What is put in loads, and a trailer that comes back takes the word away again."""
    write_files(tmp_path, {"a.bin": make_small_image(trailer=False), "b.bin": make_small_image(), "r.toml": ""})
    text = with_images(tmp_path / "r.toml", "", [tmp_path / "a.bin"])
    assert 'trailer = "none"' in text
    assert "trailer" not in with_images(tmp_path / "r.toml", text, [tmp_path / "b.bin"])


@pytest.mark.parametrize(
    ("text", "images", "says"),
    [("[x\n", ["a.bin"], "TOML syntax"), ("", ["no.bin"], "first byte"), ("image = 5\n", ["a.bin"], "list of tables")],
)
def test_what_cannot_be_put_together_is_refused(tmp_path: Path, text: str, images: list[str], says: str) -> None:
    """Broken TOML, files that are no firmware and wrong tables are refused, and nothing is written."""
    write_files(tmp_path, {"a.bin": make_small_image(), "no.bin": b"x" * 100})
    with pytest.raises(ConfigurationError, match=says):
        with_images(tmp_path / "r.toml", text, [tmp_path / name for name in images])
