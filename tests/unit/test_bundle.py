"""Recipe bundles: the same bytes wherever they are made, the same recipe wherever they are opened, and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from station.bundle import (
    Bundle,
    Manifest,
    bundle_of,
    check_signer,
    freeze,
    load_private_key,
    look_into,
    new_private_key,
    open_bundle,
    open_recipe,
    opening,
    public_key_of,
    read_bundle,
    read_bundle_file,
    recipe_files,
    recipe_text,
    signed,
)
from station.bundle import archive as archive_module
from station.bundle.archive import MANIFEST, PARTS, SIGNATURE, entries, manifest_bytes, pack, pack_raw
from station.errors import ConfigurationError, ImageChanged
from station.recipe import Recipe, check_unchanged, load_recipe
from tests.unit.small_image import make_small_image, write_recipe

IMAGE = make_small_image()
TREE = """
[files]
tree = "tree"
others = "delete"

[[check]]
name = "own"
file = "checks/own.py"
"""


def a_recipe(directory: Path, more: str = TREE) -> Path:
    """A recipe with a tree, an empty directory in it, and a check of its own."""
    (directory / "tree" / "lib").mkdir(parents=True)
    (directory / "tree" / "data").mkdir()
    (directory / "checks").mkdir()
    (directory / "tree" / "boot.py").write_text("import esp\n")
    (directory / "tree" / "lib" / "blink.py").write_text("PIN = 2\n")
    (directory / "checks" / "own.py").write_text("def check():\n    return {}\n")
    return write_recipe(directory, IMAGE, more)


@pytest.fixture
def recipe_path(tmp_path: Path) -> Path:
    """The same, in a directory of its own."""
    (tmp_path / "recipe").mkdir()
    return a_recipe(tmp_path / "recipe")


@pytest.fixture
def frozen(recipe_path: Path) -> Bundle:
    """Its bundle."""
    return freeze(load_recipe(recipe_path))


def opened(bundle: Bundle, directory: Path) -> Recipe:
    """What comes out of a bundle."""
    return open_bundle(bundle, directory, file="thing.bundle")


def refusal(content: bytes) -> str:
    """Why these bytes are no bundle."""
    with pytest.raises(ConfigurationError) as caught:
        read_bundle(content, "thing.bundle")
    return str(caught.value)


# --- freeze and open -----------------------------------------------------------------------------------------------------


def test_the_same_recipe_is_the_same_bytes_wherever_and_whenever_it_is_frozen(
    recipe_path: Path, tmp_path: Path
) -> None:
    """Place, times, modes and the order on disk change nothing; a single byte of a part makes another bundle."""
    first = freeze(load_recipe(recipe_path))
    there = tmp_path / "elsewhere" / "deep"
    shutil.copytree(recipe_path.parent, there)
    for path in there.rglob("*"):
        os.utime(path, (1, 1))
    (there / "tree" / "boot.py").chmod(0o600)
    again = freeze(load_recipe(there / recipe_path.name))
    assert again.content == first.content
    assert again.sha256 == hashlib.sha256(first.content).hexdigest()
    (there / "tree" / "boot.py").write_text("import esp \n")
    assert freeze(load_recipe(there / recipe_path.name)).sha256 != first.sha256


def test_what_comes_out_is_what_went_in(frozen: Bundle, recipe_path: Path, tmp_path: Path) -> None:
    """Hash, image, files, empty directories and checks are those of the recipe, and the TOML is the author's, byte for byte."""
    before, after = load_recipe(recipe_path), opened(frozen, tmp_path / "bundles")
    assert (after.hash, after.canonical, after.image) == (before.hash, before.canonical, before.image)
    assert (after.files, after.own_checks) == (before.files, before.own_checks)
    assert "data" in after.files.directories
    assert frozen.parts["thing.toml"] == recipe_path.read_bytes()
    assert set(frozen.parts) == {"thing.toml", "thing.bin", "tree/boot.py", "tree/lib/blink.py", "checks/own.py"}
    check_unchanged(after)


@pytest.mark.parametrize("named", ["../images/far.bin", "{}/images/far.bin", "link/far.bin"])
def test_an_image_that_lies_elsewhere_is_found_by_its_sum(tmp_path: Path, named: str) -> None:
    """`..`, an absolute path and a link: none of them is followed when the bundle is opened, and the image is there."""
    for name in ("recipe", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "recipe" / "link").symlink_to("../images")
    (tmp_path / "images" / "far.bin").write_bytes(IMAGE)
    path = write_recipe(tmp_path / "recipe", IMAGE)
    path.write_text(path.read_text().replace("thing.bin", named.format(tmp_path)))
    before = load_recipe(path)
    bundle = freeze(before)
    shutil.rmtree(tmp_path / "images")
    after = opened(bundle, tmp_path / "bundles")
    assert (after.hash, after.image) == (before.hash, IMAGE)
    assert set(bundle.parts) == {"thing.toml", f"images/{hashlib.sha256(IMAGE).hexdigest()}.bin"}


def test_a_recipe_that_is_a_link_keeps_its_name(recipe_path: Path, tmp_path: Path) -> None:
    """A link to a recipe is called as the link is, and finds its tree where the recipe lies; its bundle does so, too."""
    link = tmp_path / "current.toml"
    link.symlink_to("recipe/thing.toml")
    recipe_path.with_name("thing.bin").rename(tmp_path / "thing.bin")
    before = load_recipe(link)
    after = opened(freeze(before), tmp_path / "bundles")
    assert (after.name, after.hash, after.files) == ("current", before.hash, before.files)


def test_what_changed_after_it_was_loaded_is_not_frozen(recipe_path: Path) -> None:
    """A part that is another one by now, or gone, is refused by name: what is frozen is what was verified."""
    recipe = load_recipe(recipe_path)
    changed = recipe_path.parent / "tree" / "lib" / "blink.py"
    changed.write_text("PIN = 4\n")
    with pytest.raises(ConfigurationError, match=r"blink\.py: it changed after the recipe was loaded"):
        freeze(recipe)
    changed.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        freeze(recipe)


def test_a_recipe_of_no_file_has_no_bundle(recipe_path: Path) -> None:
    """What was made in memory (an inspection, a probe) leaves nothing to keep."""
    assert bundle_of(msgspec.structs.replace(load_recipe(recipe_path), parts=())) is None


def test_a_recipe_from_a_bundle_is_that_bundle(frozen: Bundle, tmp_path: Path) -> None:
    """Its own file is what is kept, signature and all; one that was exchanged under the station is noticed twice."""
    file = tmp_path / "thing.bundle"
    file.write_bytes(signed(frozen, Ed25519PrivateKey.generate()).content)
    recipe = open_recipe(file, tmp_path / "state").recipe
    kept = bundle_of(recipe)
    assert kept is not None
    assert kept.content == file.read_bytes()
    check_unchanged(recipe)
    file.write_bytes(frozen.content)
    with pytest.raises(ImageChanged, match=r"thing\.bundle is not what was loaded"):
        check_unchanged(recipe)
    with pytest.raises(ConfigurationError, match="changed after the recipe was loaded"):
        bundle_of(recipe)


def test_a_look_leaves_nothing(frozen: Bundle, recipe_path: Path, tmp_path: Path) -> None:
    """`look_into` takes either kind, and leaves no file behind; the text of either can be read."""
    file = tmp_path / "thing.bundle"
    file.write_bytes(frozen.content)
    before = sorted(tmp_path.rglob("*"))
    assert look_into(file).hash == look_into(recipe_path).hash
    assert recipe_text(file) == recipe_text(recipe_path) == recipe_path.read_text()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_lies_unpacked_and_is_not_the_bundle_is_put_right(frozen: Bundle, tmp_path: Path) -> None:
    """A stray file in the tree, a changed one, a missing one, a link: none of them ever comes to a board."""
    directory = tmp_path / "bundles"
    good = opened(frozen, directory)
    home = directory / frozen.sha256

    def stray() -> None:
        (home / "tree" / "evil.py").write_text("import os\n")

    def changed() -> None:
        (home / "tree" / "boot.py").write_text("import os \n")

    def missing() -> None:
        (home / "tree" / "data").rmdir()

    def link() -> None:
        (home / "tree" / "boot.py").unlink()
        (home / "tree" / "boot.py").symlink_to(tmp_path / "boot.py")

    (tmp_path / "boot.py").write_text("import esp\n")
    for spoil in (stray, changed, missing, link):
        spoil()
        again = opened(frozen, directory)
        assert again.files == good.files
        assert not (home / "tree" / "evil.py").exists()
        assert not (home / "tree" / "boot.py").is_symlink()
    assert [path.name for path in directory.iterdir()] == [frozen.sha256]


def test_a_bundle_of_another_hash_rule_is_refused(frozen: Bundle, tmp_path: Path) -> None:
    """A manifest that names another hash than the recipe has here: one sentence that says what to do."""
    manifest = msgspec.structs.replace(frozen.manifest, recipe_hash="ab" * 32)
    other = read_bundle(pack(manifest, frozen.parts), "thing.bundle")
    with pytest.raises(ConfigurationError, match=r"to this station, and was abababab\. Fix: freeze the recipe"):
        opened(other, tmp_path)
    renamed = msgspec.structs.replace(frozen.manifest, name="something else")
    with pytest.raises(ConfigurationError, match="not called what its recipe is called"):
        opened(read_bundle(pack(renamed, frozen.parts), "thing.bundle"), tmp_path)


def test_every_file_of_a_recipe_is_known_to_the_backup(recipe_path: Path) -> None:
    """The TOML, the image, the whole tree and the checks, also of a recipe that would be refused."""
    names = {path.relative_to(recipe_path.parent).as_posix() for path in recipe_files(recipe_path)}
    assert names == {"thing.toml", "thing.bin", "tree/boot.py", "tree/lib/blink.py", "checks/own.py"}
    (recipe_path.parent / "thing.bin").write_bytes(b"no image")
    assert len(recipe_files(recipe_path)) == 5


# --- what is no bundle ---------------------------------------------------------------------------------------------------

_SMALL = read_bundle(
    pack(
        Manifest(
            format=1,
            name="thing",
            version="1",
            recipe_hash="00" * 32,
            recipe="thing.toml",
            parts=tuple(entries({"thing.toml": b'name = "x"\n', "tree/a.py": b"A = 1\n"})),
        ),
        {"thing.toml": b'name = "x"\n', "tree/a.py": b"A = 1\n"},
    ),
    "small",
)


def test_the_form_of_the_file_never_changes() -> None:
    """A bundle that is frozen in three years by another Python is the same bytes: neither time nor library is in it."""
    assert _SMALL.sha256 == "0178828fd72fb3714a0c7eb166fff966b091e2a9b5d4f65bfd248fbcaf5e7c48"
    with zipfile.ZipFile(BytesIO(_SMALL.content)) as archive:
        assert archive.namelist() == ["manifest.json", "recipe/thing.toml", "recipe/tree/a.py"]
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None


_LOCAL, _CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_SIGNED = signed(_SMALL, Ed25519PrivateKey.generate())


@given(st.integers(0, len(_SIGNED.content) - 1), st.integers(1, 255))
def test_a_flipped_bit_anywhere_in_a_signed_bundle_is_noticed(at: int, mask: int) -> None:
    """Signed or not: one file for each content."""
    content = bytearray(_SIGNED.content)
    content[at] ^= mask
    assert refusal(bytes(content))


def test_a_signature_can_be_written_in_one_way_only() -> None:
    """Base64 has bits that mean nothing: with another one set it is another file, which nobody signed."""
    with zipfile.ZipFile(BytesIO(_SIGNED.content)) as archive:
        named, made, _ = archive.read(SIGNATURE).decode().split("\n")
    for odd in (f"{_odd(named)}\n{made}\n", f"{named}\n{_odd(made)}\n"):
        content = pack(_SMALL.manifest, _SMALL.parts, odd.encode())
        assert "its signature does not hold" in refusal(content)


def _odd(text: str) -> str:
    """The same bytes in base64 that nobody writes so."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = len(text.rstrip("=")) - 1
    return text[:at] + digits[digits.index(text[at]) + 1] + text[at + 1 :]


@given(st.integers(0, len(_SMALL.content) - 1), st.integers(1, 255))
def test_a_flipped_bit_anywhere_is_noticed(at: int, mask: int) -> None:
    """No byte of the file can change without the file being refused as a `ConfigurationError`."""
    content = bytearray(_SMALL.content)
    content[at] ^= mask
    assert "small" not in refusal(bytes(content))


@given(st.integers(0, len(_SMALL.content) - 1), st.binary(min_size=1, max_size=40))
def test_a_file_that_was_cut_or_added_to_is_noticed(at: int, more: bytes) -> None:
    """A stick that was pulled too early, bytes behind, in front or within: refused."""
    assert refusal(_SMALL.content[:at])
    assert refusal(_SMALL.content + more)
    assert refusal(more + _SMALL.content)
    assert refusal(_SMALL.content[:at] + more + _SMALL.content[at:])


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "./a", "a\\b", "a\nb", "", ".."])
def test_no_name_leads_out_of_the_directory(name: str) -> None:
    """A part or directory that could be written elsewhere, or not at all, makes the file no bundle."""
    parts = {"thing.toml": b"", name: b"evil"}
    manifest = msgspec.structs.replace(_SMALL.manifest, parts=tuple(entries(parts)))
    assert "is no name of a part" in refusal(pack(manifest, parts))
    with_directory = msgspec.structs.replace(_SMALL.manifest, directories=(name,))
    assert "is no name of a part" in refusal(pack(with_directory, _SMALL.parts))


def test_a_manifest_and_its_members_agree() -> None:
    """More, fewer, doubled or other members than the manifest names; a file that is also a directory: refused."""
    more = {**_SMALL.parts, "extra": b"x"}
    assert "not those of its manifest ('recipe/extra')" in refusal(pack(_SMALL.manifest, more))
    assert "not those of its manifest" in refusal(pack(_SMALL.manifest, {"thing.toml": b""}))
    assert "tree/a.py is not what was frozen" in refusal(
        pack(_SMALL.manifest, {**_SMALL.parts, "tree/a.py": b"A = 2\n"})
    )
    twice = msgspec.structs.replace(_SMALL.manifest, parts=(*_SMALL.manifest.parts, _SMALL.manifest.parts[1]))
    assert "named twice" in refusal(pack(twice, _SMALL.parts))
    both = {**_SMALL.parts, "tree/a.py/b.py": b""}
    manifest = msgspec.structs.replace(_SMALL.manifest, parts=tuple(entries(both)))
    assert "a file and a directory" in refusal(pack(manifest, both))
    empty = msgspec.structs.replace(_SMALL.manifest, directories=("tree/a.py",))
    assert "a file and a directory" in refusal(pack(empty, _SMALL.parts))
    nameless = msgspec.structs.replace(_SMALL.manifest, recipe="other.toml")
    assert "'other.toml' is not in it" in refusal(pack(nameless, _SMALL.parts))


def test_other_zip_files_are_no_bundles() -> None:
    """A compressed one, one of another tool, one without a manifest, a newer format, a manifest of another form."""
    for compression, words in ((zipfile.ZIP_DEFLATED, "compressed"), (zipfile.ZIP_STORED, "belong to no part")):
        made = BytesIO()
        with zipfile.ZipFile(made, "w", compression) as archive:
            archive.writestr(MANIFEST, manifest_bytes(_SMALL.manifest) * (50 if compression else 1))
            for name, content in _SMALL.parts.items():
                archive.writestr(PARTS + name, content)
        assert words in refusal(made.getvalue())
    empty = BytesIO()
    with zipfile.ZipFile(empty, "w"):
        pass
    assert "no manifest.json" in refusal(empty.getvalue())
    newer = msgspec.structs.replace(_SMALL.manifest, format=2)
    assert "its format is 2, this station reads 1" in refusal(pack(newer, _SMALL.parts))
    assert "cannot be read" in refusal(pack_raw(b"{}", _SMALL.parts))
    spaced = manifest_bytes(_SMALL.manifest).replace(b"\n", b"\n ")
    assert "not of the form" in refusal(pack_raw(spaced, _SMALL.parts))
    assert "no bundle" in refusal(b"\xe9 an image")


def raw_zip(members: list[tuple[str, bytes]]) -> bytes:
    """A stored zip file with these members, whatever they are called and however often."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def test_a_member_that_is_in_it_twice_is_refused() -> None:
    """Another reader might take the other one."""
    manifest = (MANIFEST, manifest_bytes(_SMALL.manifest))
    first = [(PARTS + name, content) for name, content in _SMALL.parts.items()]
    assert "'recipe/tree/a.py' is in it twice" in refusal(raw_zip([manifest, *first, (PARTS + "tree/a.py", b"EVIL")]))
    assert "'manifest.json' is in it twice" in refusal(raw_zip([manifest, *first, manifest]))


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "evil", "manifest.json/evil", "recipe"])
def test_a_member_that_is_no_part_is_refused(name: str) -> None:
    """Whatever lies beside the parts, in or out of the directory, makes it no bundle, and is never unpacked."""
    members = [(MANIFEST, manifest_bytes(_SMALL.manifest))]
    members += [(PARTS + part, content) for part, content in _SMALL.parts.items()]
    assert "belong to no part" in refusal(raw_zip([*members, (name, b"evil")]))


def test_members_that_lie_in_one_another_are_not_read() -> None:
    """A small file must not become gigabytes: each member here holds all that follow it."""
    count, core = 200, bytes(100_000)
    body, central, sizes = b"", b"", []
    for number in reversed(range(count)):
        within = body or core
        name = f"recipe/{number:04}".encode()
        body = (
            _LOCAL.pack(b"PK\3\4", 20, 0, 0, 0, 33, zlib.crc32(within), *[len(within)] * 2, len(name), 0)
            + name
            + within
        )
        sizes.append(len(within))
    for number, size in zip(range(count), reversed(sizes), strict=True):
        name = f"recipe/{number:04}".encode()
        at = number * (_LOCAL.size + len(name))
        crc = zlib.crc32(body[len(body) - size :])
        fields = (b"PK\1\2", 20, 20, 0, 0, 0, 33, crc, size, size, len(name), 0, 0, 0, 0, 0, at)
        central += _CENTRAL.pack(*fields) + name
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(central), len(body), 0)
    bomb = body + central + end
    with zipfile.ZipFile(BytesIO(bomb)) as archive:
        assert sum(info.file_size for info in archive.infolist()) > 50 * len(bomb)
    assert "more than the file is long" in refusal(bomb)


def test_a_file_beyond_the_largest_bundle_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stick may hold anything under the name of a bundle."""
    monkeypatch.setattr(opening, "MOST_BYTES", 1000)
    monkeypatch.setattr(archive_module, "MOST_BYTES", 1000)
    file = tmp_path / "thing.bundle"
    file.write_bytes(bytes(5000))
    with pytest.raises(ConfigurationError, match="no bundle of a recipe"):
        read_bundle_file(file)


# --- signatures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def key() -> Ed25519PrivateKey:
    """Ada's."""
    return Ed25519PrivateKey.generate()


def test_a_signature_says_whose_it_is_and_holds_the_parts(key: Ed25519PrivateKey) -> None:
    """A signed bundle names its signer; the parts are the same; another manifest under the old signature is refused."""
    bundle = signed(_SMALL, key)
    assert bundle.signed_by == public_key_of(key)
    assert (bundle.manifest, bundle.parts) == (_SMALL.manifest, _SMALL.parts)
    assert bundle.sha256 != _SMALL.sha256
    with zipfile.ZipFile(BytesIO(bundle.content)) as archive:
        signature = archive.read("manifest.sig")
    evil = {**_SMALL.parts, "tree/a.py": b"EVIL = 1\n"}
    manifest = msgspec.structs.replace(_SMALL.manifest, parts=tuple(entries(evil)))
    assert "its signature does not hold" in refusal(pack(manifest, evil, signature))
    claimed = public_key_of(Ed25519PrivateKey.generate()).encode()
    stolen = claimed + signature[signature.index(b"\n") :]
    for wrong in (stolen, b"", b"nonsense", b"\xff", signature + b"x", signature.replace(b"ed25519:", b"rsa:")):
        content = pack(_SMALL.manifest, _SMALL.parts, wrong or b" ")
        assert "its signature does not hold" in refusal(content)


def test_signing_again_replaces_the_signature(key: Ed25519PrivateKey) -> None:
    """A bundle has one signer: the last one."""
    other = Ed25519PrivateKey.generate()
    assert signed(signed(_SMALL, other), key).content == signed(_SMALL, key).content


def test_only_the_keys_that_are_named_count(key: Ed25519PrivateKey) -> None:
    """Without signers everybody is welcome; with some neither an unsigned bundle nor a stranger's is."""
    mine, other = public_key_of(key), public_key_of(Ed25519PrivateKey.generate())
    check_signer("", (), file="thing.bundle")
    check_signer(other, (), file="thing.bundle")
    check_signer(mine, (other, mine), file="thing.bundle")
    with pytest.raises(ConfigurationError, match=r"thing\.bundle: work\.signers: not signed, and must be"):
        check_signer("", (mine,), file="thing.bundle")
    with pytest.raises(ConfigurationError, match="which is none of the keys there"):
        check_signer(other, (mine,), file="thing.bundle")


def test_a_private_key_is_made_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    """The file has mode 0600, is never written over, and gives the same public key."""
    file = tmp_path / "ada.pem"
    made = public_key_of(new_private_key(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert public_key_of(load_private_key(file)) == made
    with pytest.raises(ConfigurationError, match="File exists"):
        new_private_key(file)


def test_what_is_no_private_key_is_refused_without_being_repeated(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    """No file, no PEM, a key with a password, a key of another kind: one sentence, and nothing of the content."""
    file = tmp_path / "key.pem"
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = key.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"hush"))
    other = rsa.generate_private_key(65537, 2048).private_bytes(pem, pkcs8, serialization.NoEncryption())
    for content, words in (
        (b"top secret", "no private key"),
        (locked, "without a password"),
        (other, "none of Ed25519"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match=words) as caught:
            load_private_key(file)
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_private_key(tmp_path / "none.pem")
