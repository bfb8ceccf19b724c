"""What to make of a board: the recipe, from its TOML text to the frozen, hashed thing that every job names.

`text` is the format, `checking` and `sections` what no type can say, `images` the firmware images, `tree` the files,
`programs` what runs on the board, `fitting` whether each image does for all of it; `loading` puts it together, `writing` makes
recipes. Everything else imports the names that stand here.
"""

from station.recipe.images import (
    FLASH_FREQUENCIES,
    FLASH_MODES,
    FLASH_SIZE_CODES,
    TRAILER_LENGTH_OFFSET,
    TRAILER_SIZE_BYTES,
    describe,
    image_problem,
    trailer_problem,
    verify_image,
)
from station.recipe.loading import (
    Recipe,
    check_unchanged,
    demands_cold_boot,
    image_for_flash,
    load_recipe,
)
from station.recipe.plan import FilesPlan, Image, OwnCheckCode, Part, SourceFile
from station.recipe.template import fill, names_in
from station.recipe.text import (
    FirmwareSection,
    FlashPolicyCheck,
    FlashSection,
    LimitsSection,
    NetworkSection,
    PolicySection,
    RecipeFile,
    parse_toml,
    read_file,
)
from station.recipe.tree import path_problem
from station.recipe.writing import new_recipe_text, shown_path

__all__ = [
    "FLASH_FREQUENCIES",
    "FLASH_MODES",
    "FLASH_SIZE_CODES",
    "TRAILER_LENGTH_OFFSET",
    "TRAILER_SIZE_BYTES",
    "FilesPlan",
    "FirmwareSection",
    "FlashPolicyCheck",
    "FlashSection",
    "Image",
    "LimitsSection",
    "NetworkSection",
    "OwnCheckCode",
    "Part",
    "PolicySection",
    "Recipe",
    "RecipeFile",
    "SourceFile",
    "check_unchanged",
    "demands_cold_boot",
    "describe",
    "fill",
    "image_for_flash",
    "image_problem",
    "load_recipe",
    "names_in",
    "new_recipe_text",
    "parse_toml",
    "path_problem",
    "read_file",
    "shown_path",
    "trailer_problem",
    "verify_image",
]
