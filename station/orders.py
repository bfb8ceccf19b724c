"""What the bench may make: the recipe that is loaded, the bundle it is kept as, the lot that asks for it, and its release.

Every recipe that a lot is opened for is kept byte for byte in the records, as the bundle that it came in or as one that is
made of it here. Nothing is made of one that is withdrawn; where `work.require_release` says so, none but a released one opens
a lot. Nothing here knows a board.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from station.adapters.records import (
    AFTER_WITHDRAWAL,
    BundleRow,
    BundleState,
    Database,
    FirmwareRow,
    LotRequest,
    RecipeRow,
)
from station.bookkeeping import WorkNow
from station.bundle import BUNDLES, Bundle, bundle_of, check_signer, open_bundle, open_recipe, read_bundle
from station.config import Config
from station.errors import ConfigurationError
from station.model import Lot
from station.recipe import Recipe

THE_STATION = "station"
KEPT_BECAUSE = "kept when the station loaded it"
log = structlog.get_logger()


def load_work(config: Config) -> Recipe | None:
    """Return the recipe that the configuration names, verified; None when it names none. Raises `ConfigurationError`."""
    return open_for(config, Path(config.work.recipe)) if config.work.recipe else None


def open_for(config: Config, path: Path) -> Recipe:
    """Load a recipe or a bundle that this station accepts; raises `ConfigurationError`, also where a signature is missing."""
    opened = open_recipe(path, config.state_dir)
    check_signer(opened.signed_by, config.work.signers, file=str(path))
    return opened.recipe


def remember_recipe(database: Database, recipe: Recipe, person: str = THE_STATION) -> Bundle | None:
    """Write recipe and images into the records unless they are there, and keep its bundle.

    Returns the bundle; None for a recipe that is no file's. Raises `ConfigurationError` when the files have changed.
    """
    database.ensure_recipe(
        RecipeRow(
            hash=recipe.hash,
            name=recipe.name,
            version=recipe.version,
            text=recipe.canonical,
            firmware_sha256=recipe.firmware_sha256,
            firmware_version=recipe.firmware_version,
            firmware_size_bytes=len(recipe.image),
            images=image_rows(recipe),
        )
    )
    bundle = bundle_of(recipe)
    if bundle is not None:
        database.shelf.keep(bundle_row(bundle, person, KEPT_BECAUSE))
    return bundle


def image_rows(recipe: Recipe) -> tuple[FirmwareRow, ...]:
    """Return what the records keep of every image that the recipe may put on a board."""
    return tuple(
        FirmwareRow(sha256=image.sha256, version=image.version, size_bytes=len(image.content))
        for image in recipe.images
    )


def bundle_row(bundle: Bundle, person: str, reason: str) -> BundleRow:
    """Return what the records keep of a bundle."""
    return BundleRow(
        sha256=bundle.sha256,
        recipe_hash=bundle.manifest.recipe_hash,
        name=bundle.manifest.name,
        version=bundle.manifest.version,
        content=bundle.content,
        signed_by=bundle.signed_by,
        person=person,
        reason=reason,
    )


def unreleased(config: Config, database: Database, bundle: Bundle | None) -> str:
    """Return why no lot may be made of this bundle, empty when one may; raises `RecordsUnwritable`.

    A person who withdrew it meant it, whether or not releases are required.
    """
    if bundle is None:
        return ""
    state = database.shelf.state(bundle.sha256)
    if state is BundleState.RELEASED or (state is not BundleState.WITHDRAWN and not config.work.require_release):
        return ""
    return f"bundle {bundle.short} is {state or 'not kept'}"


def require_released(config: Config, database: Database, bundle: Bundle | None) -> None:
    """Raise `ConfigurationError` unless a lot may be made of this bundle."""
    problem = unreleased(config, database, bundle)
    if not problem or bundle is None:
        return
    if database.shelf.state(bundle.sha256) is BundleState.WITHDRAWN:
        raise ConfigurationError(file=bundle.title, problem=problem, fix=AFTER_WITHDRAWAL)
    raise ConfigurationError(
        file=bundle.title,
        key="work.require_release",
        problem=f"not released: {problem}",
        fix=f"station recipe release {bundle.short} --by NAME --reason WHY",
    )


def standing_request(config: Config, recipe: Recipe) -> LotRequest:
    """Return the work order that the station gives itself for a recipe."""
    return LotRequest(
        recipe_hash=recipe.hash,
        product=recipe.name,
        person=config.station.operator or config.station_id,
        supplier_batch=config.station.supplier_batch,
    )


def standing_lot(config: Config, database: Database, recipe: Recipe) -> Lot:
    """Return the lot that is always open for one recipe, whether or not it is released; the recipe is kept."""
    remember_recipe(database, recipe)
    return database.standing_lot(standing_request(config, recipe))


def lot_by_hand(config: Config, database: Database, recipe: Recipe) -> Lot:
    """Return the lot of a technician who makes one board: of a draft as well, for that is how a first article is made.

    Raises `ConfigurationError` for a withdrawn recipe.
    """
    bundle = remember_recipe(database, recipe)
    if bundle is not None and database.shelf.state(bundle.sha256) is BundleState.WITHDRAWN:
        require_released(config, database, bundle)
    return database.standing_lot(standing_request(config, recipe))


def orders_for(config: Config, database: Database, recipe: Recipe | None) -> Callable[[], WorkNow]:
    """Return who tells the work order of the bench; without a recipe there is none."""
    return Orders(config, database, recipe) if recipe is not None else lambda: WorkNow(lot=None)


class Orders:
    """The work order of the bench, whenever it is asked for. Called from one thread at a time; every call may block."""

    def __init__(self, config: Config, database: Database, recipe: Recipe) -> None:
        self._config, self._database, self._recipe = config, database, recipe
        self._bundle = remember_recipe(database, recipe)
        self._standing: Lot | None = None

    def __call__(self) -> WorkNow:
        """Look what the records say now; the standing lot is opened as soon as it may be, and stays closed once closed.

        Raises `RecordsUnwritable`.
        """
        problem = unreleased(self._config, self._database, self._bundle)
        if self._config.work.require_lot:
            return WorkNow(lot=self._database.current_lot(), unreleased=problem)
        if self._standing is not None:
            self._standing = self._database.lot(self._standing.id)
        else:
            find = self._database.known_standing_lot if problem else self._database.standing_lot
            self._standing = find(standing_request(self._config, self._recipe))
        return WorkNow(lot=self._standing, unreleased=problem)


class KeptRecipes:
    """The recipes of closed lots whose waiting boards shall be finished, from the bundles that are kept. Thread-safe."""

    def __init__(self, database: Database, state_dir: Path) -> None:
        self._shelf, self._directory = database.shelf, state_dir / BUNDLES
        self._opened: dict[str, Recipe] = {}
        self._lock = threading.Lock()

    def __call__(self, lot: Lot) -> Recipe | None:
        """Return the recipe of a lot whose boards are finished under it; None for another lot, and where it cannot be had.

        Raises `RecordsUnwritable`.
        """
        if not self._shelf.is_finished_later(lot.id):
            return None
        with self._lock:
            if lot.recipe_hash not in self._opened:
                recipe = self._open(lot.recipe_hash)
                if recipe is None:
                    return None
                self._opened[lot.recipe_hash] = recipe
            return self._opened[lot.recipe_hash]

    def _open(self, recipe_hash: str) -> Recipe | None:
        for sha256 in self._shelf.of_recipe(recipe_hash):
            file = f"bundle {sha256[:12]}"
            try:
                return open_bundle(read_bundle(self._shelf.content(sha256), file), self._directory, file=file)
            except ConfigurationError as error:
                log.error("bundle.not_opened", bundle=sha256[:12], problem=str(error))  # noqa: TRY400 - no traceback
        return None
