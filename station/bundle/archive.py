"""The file of a bundle: a zip of fixed form, a manifest, the parts that the manifest names, and nothing else.

The same parts give the same bytes anywhere: members in one order, stored, without times. Reading trusts nothing: sizes,
names, sums and the list of members are those of the manifest, or the file is refused as a `ConfigurationError`. Nothing is
unpacked here, and nothing is ever written to a place that a bundle chooses.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import msgspec

from station.bundle.signing import signer_of
from station.errors import ConfigurationError

SUFFIX = ".bundle"
FORMAT = 1
MOST_BYTES = 64 << 20
"""A larger file is no bundle: four images of 16 MiB, far beyond what an ESP8266 carries."""
MOST_PARTS = 2000
MANIFEST, SIGNATURE, PARTS = "manifest.json", "manifest.sig", "recipe/"
IMAGES = "images"
"""Directory in a bundle for images that lay outside the recipe's own directory, each called by its sha256."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16
_FIX = "freeze the recipe again, and copy the file whole"


class PartEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One file of the recipe, as the manifest names it."""

    name: str
    """Seen from the recipe's directory, with `/`."""
    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a bundle says of itself; the signature is over these bytes."""

    format: int
    name: str
    version: str
    recipe_hash: str
    recipe: str
    """Name of the part that is the recipe's TOML."""
    parts: tuple[PartEntry, ...]
    """By name; images are found by their sha256, wherever the recipe looks for them."""
    directories: tuple[str, ...] = ()
    """Directories of the recipe's tree in which there is no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle that was read whole: its sums and, where it has one, its signature hold."""

    content: bytes
    sha256: str
    """Of the whole file: the name of the bundle."""
    manifest: Manifest
    parts: Mapping[str, bytes]
    signed_by: str
    """The public key (`ed25519:…`) whose signature it carries, which need not be one that counts; empty for none."""

    @property
    def short(self) -> str:
        """The first twelve digits of the name, for people."""
        return self.sha256[:12]

    @property
    def title(self) -> str:
        """Product, version and hash, for people."""
        return f"{self.manifest.name} {self.manifest.version} [{self.manifest.recipe_hash[:8]}]"


def pack(manifest: Manifest, parts: Mapping[str, bytes], signature: bytes = b"") -> bytes:
    """Return the bytes of a bundle; `signature` as `signing.sign` makes it, empty for none."""
    return pack_raw(manifest_bytes(manifest), parts, signature)


def pack_raw(manifest: bytes, parts: Mapping[str, bytes], signature: bytes = b"") -> bytes:
    """Return the bytes of a bundle with this very manifest."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, MANIFEST, manifest)
        if signature:
            _add(archive, SIGNATURE, signature)
        for name in sorted(parts):
            _add(archive, PARTS + name, parts[name])
    return out.getvalue()


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as it stands in the file and is signed."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1) + b"\n"


def read_bundle(content: bytes, file: str) -> Bundle:
    """Return what `content` holds, every sum checked; `file` is what errors call it. Raises `ConfigurationError`."""
    if len(content) > MOST_BYTES:
        raise _refused(file, f"larger than {MOST_BYTES >> 20} MiB: no bundle of a recipe")
    members = _members(content, file)
    manifest = _manifest(members.pop(MANIFEST, None), file)
    signature = members.pop(SIGNATURE, None)
    _check_names(manifest, file)
    named = {PARTS + part.name for part in manifest.parts}
    if named != set(members):
        odd = sorted(named ^ set(members))
        raise _refused(file, f"its members are not those of its manifest ({odd[0]!r})")
    parts = {part.name: members[PARTS + part.name] for part in manifest.parts}
    for part in manifest.parts:
        if hashlib.sha256(parts[part.name]).hexdigest() != part.sha256 or len(parts[part.name]) != part.size_bytes:
            raise _refused(file, f"{part.name} is not what was frozen")
    signed_by = ""
    if signature is not None:
        signed_by = signer_of(manifest_bytes(manifest), signature)
        if not signed_by:
            raise _refused(file, "its signature does not hold: the manifest is not what was signed")
    return Bundle(
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        manifest=manifest,
        parts=parts,
        signed_by=signed_by,
    )


def _members(content: bytes, file: str) -> dict[str, bytes]:
    """Return name -> bytes of all members; compressed, doubled or overlarge ones are refused."""
    members: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            listed = archive.infolist()
            if len(listed) > MOST_PARTS + 2:
                raise _refused(file, f"more than {MOST_PARTS} parts")
            # Members may lie in one another, each as large as the file: stored ones that do not never grow as they are read.
            if sum(info.compress_size for info in listed) > len(content):
                raise _refused(file, "its members are more than the file is long: this station did not make it")
            for info in listed:
                if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                    raise _refused(file, f"{info.filename!r} is compressed: this station did not make it")
                if info.filename in members:
                    raise _refused(file, f"{info.filename!r} is in it twice")
                members[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise _refused(file, f"damaged, or no bundle ({error})") from None
    if content != _as_packed(content, members):
        raise _refused(file, "damaged, or not made by this station: bytes in it belong to no part")
    return members


def _as_packed(content: bytes, members: Mapping[str, bytes]) -> bytes:
    """Return the bytes that these members make; empty where there is no manifest.

    A file of another form could show one content to this reader and another one to the next.
    """
    manifest = members.get(MANIFEST)
    if manifest is None:
        return content
    parts = {name.removeprefix(PARTS): data for name, data in members.items() if name.startswith(PARTS)}
    return pack_raw(manifest, parts, members.get(SIGNATURE, b""))


def _manifest(raw: bytes | None, file: str) -> Manifest:
    if raw is None:
        raise _refused(file, f"there is no {MANIFEST} in it: no bundle of a recipe")
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise _refused(file, f"its manifest cannot be read ({error})") from None
    if manifest.format != FORMAT:
        raise ConfigurationError(
            file=file,
            problem=f"its format is {manifest.format}, this station reads {FORMAT}",
            fix="freeze the recipe with this station, or install the one that made it",
        )
    if manifest_bytes(manifest) != raw:
        raise _refused(file, "its manifest is not of the form that this station writes")
    return manifest


def _check_names(manifest: Manifest, file: str) -> None:
    """Refuse every name that could leave the directory into which the bundle is unpacked, or be two files there."""
    names = [part.name for part in manifest.parts]
    for name in (*names, *manifest.directories):
        path = PurePosixPath(name)
        plain = name.isprintable() and "\\" not in name and str(path) == name
        if not plain or path.is_absolute() or ".." in path.parts or not path.parts:
            raise _refused(file, f"{name!r} is no name of a part")
    if len(set(names)) != len(names) or list(names) != sorted(names):
        raise _refused(file, "its parts are named twice, or out of order")
    if manifest.recipe not in names or "/" in manifest.recipe:
        raise _refused(file, f"{manifest.recipe!r} is not in it")
    files, empty = {PurePosixPath(name) for name in names}, {PurePosixPath(name) for name in manifest.directories}
    if files & (empty | {parent for path in files | empty for parent in path.parents}):
        raise _refused(file, "a file and a directory in it have the same name")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # as on Linux, wherever it is made
    info.external_attr = _MODE
    archive.writestr(info, content)


def _refused(file: str, problem: str) -> ConfigurationError:
    return ConfigurationError(file=file, problem=problem, fix=_FIX)


def entries(parts: Mapping[str, bytes]) -> Sequence[PartEntry]:
    """Return what the manifest says of these parts, by name."""
    return [
        PartEntry(name=name, sha256=hashlib.sha256(parts[name]).hexdigest(), size_bytes=len(parts[name]))
        for name in sorted(parts)
    ]
