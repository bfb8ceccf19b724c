"""Recipe bundles: a recipe and everything it was made of in one immutable file, named by its sha256, perhaps signed.

`archive` is the file, `signing` who vouches for it, `freezing` makes one of a recipe, `opening` makes a recipe of one. What
became of a bundle (draft, released, withdrawn) stands in the records, never in the file.
"""

from station.bundle.archive import SUFFIX, Bundle, Manifest, PartEntry, read_bundle
from station.bundle.freezing import bundle_of, freeze, recipe_files, signed
from station.bundle.opening import (
    BUNDLES,
    Opened,
    check_signer,
    is_bundle,
    look_into,
    open_bundle,
    open_recipe,
    prove,
    read_bundle_file,
    recipe_text,
)
from station.bundle.signing import load_private_key, new_private_key, public_key_of

__all__ = [
    "BUNDLES",
    "SUFFIX",
    "Bundle",
    "Manifest",
    "Opened",
    "PartEntry",
    "bundle_of",
    "check_signer",
    "freeze",
    "is_bundle",
    "load_private_key",
    "look_into",
    "new_private_key",
    "open_bundle",
    "open_recipe",
    "prove",
    "public_key_of",
    "read_bundle",
    "read_bundle_file",
    "recipe_files",
    "recipe_text",
    "signed",
]
