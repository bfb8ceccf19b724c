"""What the end-to-end tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.demo import write_demo_recipe
from station.recipe import Recipe, load_recipe


@pytest.fixture(scope="session")
def recipe_of_the_bench(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The recipe of the demo, verified, with its image."""
    directory: Path = tmp_path_factory.mktemp("recipe")
    return load_recipe(write_demo_recipe(directory)[0])
