"""What the bench may make: only what is released where that is asked for, and what is made is always kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from station.adapters.records import (
    BoardEvent,
    BoardEventRow,
    BundleEvent,
    BundleState,
    Database,
    LotRequest,
    PendingChoice,
)
from station.bundle import BUNDLES, bundle_of, freeze, public_key_of, signed
from station.config import Config, StationSection, WorkSection, load_config
from station.errors import ConfigurationError
from station.job import run_visit
from station.model import CommittedJob, JobState, Light, Lot, LotState, Outcome
from station.orders import (
    KeptRecipes,
    Orders,
    load_work,
    lot_by_hand,
    open_for,
    remember_recipe,
    require_released,
    standing_lot,
    standing_request,
)
from station.properties import Gpio0, Reset, Role, SlotProperties
from station.reasons import Reason
from station.recipe import Recipe, load_recipe
from station.visit import Finding, VisitResult
from tests.unit.memory_records import STICK, tools_for, visit_for
from tests.unit.scripted_board import ScriptedBoard
from tests.unit.small_image import make_small_image, small_recipe, write_recipe
from tests.unit.test_floor import World, play

SOLDERED = SlotProperties(reset=Reset.NONE, gpio0=Gpio0.ALWAYS_LOW, role=Role.FLASH)


def config_in(directory: Path, **work) -> Config:
    """A station with its state in `directory`."""
    return Config(station=StationSection(id="test", state_dir=str(directory)), work=WorkSection(**work))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """A recipe on disk."""
    (tmp_path / "recipe").mkdir()
    return small_recipe(tmp_path / "recipe")


@pytest.fixture
def successor(tmp_path: Path) -> Recipe:
    """Another version of it."""
    (tmp_path / "next").mkdir()
    return load_recipe(write_recipe(tmp_path / "next", make_small_image(filling=b"next")))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """The station's records."""
    with Database.open(f"sqlite:///{tmp_path / 'station.db'}", station_id="test") as database:
        yield database


def say(database: Database, recipe: Recipe, event: BundleEvent) -> None:
    """Ada says it of the recipe's bundle."""
    bundle = bundle_of(recipe)
    assert bundle is not None
    database.shelf.say(bundle.sha256, event, person="Ada", reason="looked at")


# --- what is accepted ----------------------------------------------------------------------------------------------------


def test_a_station_with_signers_takes_nothing_else(recipe: Recipe, tmp_path: Path) -> None:
    """A plain recipe, an unsigned bundle and a stranger's are refused, as work.recipe and by hand; the signer's is taken."""
    ada, eve = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    config = config_in(tmp_path / "state", signers=(public_key_of(ada),))
    bundle = freeze(recipe)
    files = {"plain": Path(recipe.file)}
    for name, made in (("unsigned", bundle), ("eve", signed(bundle, eve)), ("ada", signed(bundle, ada))):
        files[name] = tmp_path / f"{name}.bundle"
        files[name].write_bytes(made.content)
    for name, words in (("plain", "not signed"), ("unsigned", "not signed"), ("eve", "none of the keys")):
        work = msgspec.structs.replace(config.work, recipe=str(files[name]))
        with pytest.raises(ConfigurationError, match=words):
            load_work(msgspec.structs.replace(config, work=work))
    assert open_for(config, files["ada"]).hash == recipe.hash
    assert open_for(config_in(tmp_path / "state"), files["eve"]).hash == recipe.hash


@pytest.mark.parametrize("key", ["ada", "ed25519:", "ed25519:AAAA", "rsa:" + "A" * 43 + "=", "ed25519:" + "A" * 44])
def test_a_signer_that_is_no_key_is_refused_by_the_configuration(key: str, tmp_path: Path) -> None:
    """A slip in a key must not lock out, or let in, anybody: the configuration names it."""
    file = tmp_path / "station.toml"
    file.write_text(f'[work]\nsigners = ["{key}"]\n')
    with pytest.raises(ConfigurationError, match="signers"):
        load_config(file)
    file.write_text(f'[work]\nsigners = ["{public_key_of(Ed25519PrivateKey.generate())}"]\n')
    assert len(load_config(file).work.signers) == 1


# --- what is kept --------------------------------------------------------------------------------------------------------


def test_a_plain_recipe_is_kept_as_a_bundle_when_a_lot_opens(
    recipe: Recipe, database: Database, tmp_path: Path
) -> None:
    """The station freezes it by itself: the very bytes that `recipe freeze` makes, a draft by the station, once."""
    config = config_in(tmp_path / "state")
    for _ in range(2):
        standing_lot(config, database, recipe)
    (kept,) = database.shelf.kept()
    assert database.shelf.content(kept.sha256) == freeze(recipe).content
    assert (kept.recipe_hash, kept.state, kept.person) == (recipe.hash, BundleState.DRAFT, "station")


def test_a_bundle_is_kept_as_it_came(recipe: Recipe, database: Database, tmp_path: Path) -> None:
    """A signed bundle is kept with its signature, byte for byte, not frozen anew."""
    key = Ed25519PrivateKey.generate()
    file = tmp_path / "thing.bundle"
    file.write_bytes(signed(freeze(recipe), key).content)
    config = config_in(tmp_path / "state", recipe=str(file))
    loaded = load_work(config)
    assert loaded is not None
    Orders(config, database, loaded)()
    (kept,) = database.shelf.kept()
    assert (database.shelf.content(kept.sha256), kept.signed_by) == (file.read_bytes(), public_key_of(key))


# --- release -------------------------------------------------------------------------------------------------------------


def test_without_the_demand_a_draft_is_made(recipe: Recipe, database: Database, tmp_path: Path) -> None:
    """`require_release` is off by default: the standing lot is open at once."""
    now = Orders(config_in(tmp_path), database, recipe)()
    assert (now.unreleased, now.lot is not None and now.lot.state) == ("", LotState.OPEN)


def test_a_withdrawal_stops_the_bench_where_no_release_is_required(
    recipe: Recipe, database: Database, tmp_path: Path
) -> None:
    """A person took the recipe back: its open lot begins no board, and no new lot is opened, with a fix that can be done."""
    config = config_in(tmp_path)
    orders = Orders(config, database, recipe)
    assert orders().unreleased == ""
    say(database, recipe, BundleEvent.WITHDRAW)
    assert orders().unreleased.endswith("is withdrawn")
    assert Orders(config, database, recipe)().lot is not None
    with pytest.raises(ConfigurationError, match=r"is withdrawn\. Fix: mend the recipe and give it a new version"):
        require_released(config, database, remember_recipe(database, recipe))


def test_a_standing_lot_opens_with_the_release_and_not_before(
    recipe: Recipe, database: Database, tmp_path: Path
) -> None:
    """A draft has no lot; as soon as it is released there is one; withdrawn, the recipe is refused, whatever lot is open."""
    orders = Orders(config_in(tmp_path, require_release=True), database, recipe)
    now = orders()
    assert (now.lot, now.unreleased.endswith("is draft")) == (None, True)
    say(database, recipe, BundleEvent.RELEASE)
    now = orders()
    assert (now.unreleased, now.lot is not None and now.lot.state) == ("", LotState.OPEN)
    say(database, recipe, BundleEvent.WITHDRAW)
    assert orders().unreleased.endswith("is withdrawn")


def test_a_standing_lot_that_was_closed_is_not_opened_again(recipe: Recipe, database: Database, tmp_path: Path) -> None:
    """`station lot succeed` beside the running station: its lot stays closed, and no board is begun under it."""
    orders = Orders(config_in(tmp_path), database, recipe)
    lot = orders().lot
    assert lot is not None
    database.close_lot(lot.id, "Ada")
    for _ in range(2):
        now = orders().lot
        assert now is not None
        assert (now.id, now.state) == (lot.id, LotState.CLOSED)


def test_the_release_is_of_the_bundle_and_of_no_other(recipe: Recipe, database: Database, tmp_path: Path) -> None:
    """A recipe that differs in a comment has the same hash, and is another bundle: nobody looked at it."""
    config = config_in(tmp_path, require_release=True)
    require_released(config_in(tmp_path), database, remember_recipe(database, recipe))
    say(database, recipe, BundleEvent.RELEASE)
    require_released(config, database, remember_recipe(database, recipe))
    path = Path(recipe.file)
    path.write_text(path.read_text() + "# harmless?\n")
    commented = load_recipe(path)
    assert commented.hash == recipe.hash
    with pytest.raises(
        ConfigurationError, match=r"not released: bundle [0-9a-f]{12} is draft\. Fix: station recipe release"
    ):
        require_released(config, database, remember_recipe(database, commented))


def test_a_first_article_is_made_of_a_draft_by_hand_but_of_nothing_withdrawn(
    recipe: Recipe, database: Database, tmp_path: Path
) -> None:
    """A technician makes the first board of a draft where releases are required; a withdrawn one is refused anywhere."""
    config = config_in(tmp_path, require_release=True)
    assert lot_by_hand(config, database, recipe).state is LotState.OPEN
    say(database, recipe, BundleEvent.WITHDRAW)
    for asked in (config, config_in(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"is withdrawn\. Fix: mend the recipe"):
            lot_by_hand(asked, database, recipe)


def test_the_bench_waits_for_the_release_and_stops_when_it_is_taken_back(tmp_path: Path) -> None:
    """A board waits under "recipe not released", is made by itself after the release; the next one waits after a withdrawal."""

    async def story(world: World) -> None:
        assert world.recipe is not None
        floor = world.start()
        board = world.plug("hub:1")
        await floor.keep_books()
        floor.tick()
        assert world.view("A1").reason == Reason.NOT_RELEASED
        assert world.light("A1") is Light.FAULT
        assert "is draft" in world.view("A1").words
        assert any("recipe not released" in notice for notice in floor.view().notices)
        assert bytes(board.flash) == b"\xff" * len(board.flash)
        assert world.records.visits(10) == ()
        say(world.records, world.recipe, BundleEvent.RELEASE)
        await floor.keep_books()
        await world.until(lambda: world.light("A1") is Light.PASS)
        assert not any("not released" in notice for notice in floor.view().notices)
        say(world.records, world.recipe, BundleEvent.WITHDRAW)
        await floor.keep_books()
        world.plug("hub:2", 1)
        floor.tick()
        assert world.view("A2").reason == Reason.NOT_RELEASED
        assert len(world.records.visits(10)) == 1

    play(tmp_path, story, work=WorkSection(require_release=True))


# --- the boards of a lot that was succeeded ------------------------------------------------------------------------------


def succeeded(database: Database, old: Lot, new: Recipe, choice: PendingChoice) -> Lot:
    """Ada opens the successor."""
    remember_recipe(database, new)
    request = LotRequest(recipe_hash=new.hash, product=new.name, person="Ada")
    return database.shelf.succeed(old, request, choice).opened


def test_the_recipe_of_a_lot_that_is_finished_comes_from_its_bundle(
    recipe: Recipe, successor: Recipe, database: Database, tmp_path: Path
) -> None:
    """The files of the old recipe are gone: it is unpacked from the records, once, and is what it was."""
    old = standing_lot(config_in(tmp_path), database, recipe)
    succeeded(database, old, successor, PendingChoice.FINISH)
    for path in Path(recipe.file).parent.iterdir():
        path.unlink()
    kept = KeptRecipes(database, tmp_path / "state")
    found = kept(old)
    assert found is not None
    assert (found.hash, found.image, found.limits) == (recipe.hash, recipe.image, recipe.limits)
    assert kept(old) is found
    assert len(list((tmp_path / "state" / BUNDLES).iterdir())) == 1


@pytest.mark.parametrize("choice", [PendingChoice.REFLASH, PendingChoice.SCRAP, None])
def test_no_other_lot_is_finished(
    recipe: Recipe, successor: Recipe, database: Database, tmp_path: Path, choice: PendingChoice | None
) -> None:
    """A lot that was reflashed, scrapped, or never succeeded lends nobody its recipe."""
    old = standing_lot(config_in(tmp_path), database, recipe)
    if choice is not None:
        succeeded(database, old, successor, choice)
    assert KeptRecipes(database, tmp_path / "state")(old) is None


def test_a_bundle_that_cannot_be_opened_any_more_is_said_and_left(
    recipe: Recipe, successor: Recipe, database: Database, tmp_path: Path
) -> None:
    """No room to unpack: the board is pending elsewhere, the bench goes on, and it works when there is room again."""
    old = standing_lot(config_in(tmp_path), database, recipe)
    succeeded(database, old, successor, PendingChoice.FINISH)
    kept = KeptRecipes(database, tmp_path / "state")
    (tmp_path / "state").write_text("no directory")
    assert kept(old) is None
    (tmp_path / "state").unlink()
    assert kept(old) is not None


class TwoLots:
    """A board that was flashed under the old recipe, and a station that makes the new one now."""

    def __init__(self, database: Database, directory: Path, old: Recipe, new: Recipe) -> None:
        self.database, self.directory, self.old, self.new = database, directory, old, new
        self.board = ScriptedBoard(lines=False)
        self.lot = standing_lot(config_in(directory), database, old)
        self.visits = 0
        assert self._committed(self.visit(old, self.lot, SOLDERED)).state is JobState.PENDING

    def visit(self, recipe: Recipe, lot: Lot, properties: SlotProperties) -> VisitResult:
        """Run one visit of the board with what is loaded now."""
        self.visits += 1
        visit = visit_for(self.board, recipe, visit_id=f"visit-{self.visits}", properties=properties)
        tools = tools_for(self.board, self.database)
        tools = replace(
            tools,
            new_id=lambda: f"job-{self.visits}",
            kept_recipe=KeptRecipes(self.database, self.directory / "state"),
        )
        return run_visit(replace(visit, lot=lot, some_pending=True), tools)

    def comes_back(self, choice: PendingChoice | None, *, flashing: bool = False) -> VisitResult:
        """After the succession the board comes in run mode, or with GPIO0 at GND."""
        remember_recipe(self.database, self.new)
        if choice is None:
            lot = self.database.standing_lot(standing_request(config_in(self.directory), self.new))
        else:
            lot = succeeded(self.database, self.lot, self.new, choice)
        self.board.plug_in("low" if flashing else "free", lines=False)
        return self.visit(self.new, lot, SOLDERED if flashing else STICK)

    @staticmethod
    def _committed(result: VisitResult) -> CommittedJob:
        assert isinstance(result, CommittedJob), result
        return result


@pytest.fixture
def two_lots(recipe: Recipe, database: Database, tmp_path: Path) -> TwoLots:
    """The new recipe demands another firmware: only a board judged by the old one can pass with what is on it."""
    (tmp_path / "strict").mkdir()
    strict = load_recipe(write_recipe(tmp_path / "strict", make_small_image(version="1.28.0"), name="strict"))
    return TwoLots(database, tmp_path, recipe, strict)


def test_a_board_to_finish_is_judged_by_the_recipe_it_was_flashed_with(two_lots: TwoLots) -> None:
    """It passes in its old, closed lot, under the old hash, although another recipe is loaded."""
    result = two_lots.comes_back(PendingChoice.FINISH)
    assert isinstance(result, CommittedJob), result
    assert (result.id, result.outcome) == ("job-1", Outcome.PASS)
    known = two_lots.database.known_board(str(result.mac))
    assert known is not None
    assert [(each.recipe_hash, each.lot_state) for each in known.passes] == [(two_lots.old.hash, LotState.CLOSED)]


def test_without_the_choice_it_belongs_to_another_recipe(two_lots: TwoLots) -> None:
    """Nobody said what becomes of it: the board is not judged by a recipe that it was not made with, and waits on."""
    result = two_lots.comes_back(None)
    assert isinstance(result, Finding), result
    assert (result.reason, result.detail) == (Reason.PENDING_ELSEWHERE, two_lots.old.name)
    assert [job.state for job in two_lots.database.jobs(5)] == [JobState.PENDING]


@pytest.mark.parametrize(
    ("choice", "reason"),
    [(PendingChoice.REFLASH, Reason.NOT_IN_DOWNLOAD_MODE), (PendingChoice.SCRAP, Reason.MARKED_BOARD)],
)
def test_a_board_that_waits_no_more_never_passes_with_what_it_carries(
    two_lots: TwoLots, choice: PendingChoice, reason: Reason
) -> None:
    """In run mode it is a board for which no job waits, or one that was thrown away: no PASS, no new row."""
    result = two_lots.comes_back(choice)
    assert isinstance(result, Finding), result
    assert result.reason is reason
    assert [(job.id, job.outcome) for job in two_lots.database.jobs(5)] == [("job-1", Outcome.ABORTED)]


def test_a_scrapped_board_is_not_made_into_a_new_one(two_lots: TwoLots) -> None:
    """With GPIO0 at GND nothing is written, and the technician is called; a rework by a named person lets it be made."""
    before = bytes(two_lots.board.flash)
    result = two_lots.comes_back(PendingChoice.SCRAP, flashing=True)
    assert isinstance(result, Finding), result
    assert (result.reason, result.detail) == (Reason.MARKED_BOARD, "scrapped")
    assert bytes(two_lots.board.flash) == before
    mac = str(result.mac)
    two_lots.database.add_board_event(
        BoardEventRow(id="event", mac=mac, event=BoardEvent.REWORK_OPEN, person="Ada", reason="wrong box")
    )
    two_lots.board.plug_in("low", lines=False)
    again = two_lots.visit(
        two_lots.new, standing_lot(config_in(two_lots.directory), two_lots.database, two_lots.new), SOLDERED
    )
    assert isinstance(again, CommittedJob), again
    assert again.state is JobState.PENDING
    assert two_lots.board.flash[: len(two_lots.new.image)][4:] == two_lots.new.image[4:]


def test_a_board_to_reflash_is_made_anew_under_the_new_recipe(two_lots: TwoLots) -> None:
    """With GPIO0 at GND it gets a job of its own, in the new lot, with the new image."""
    result = two_lots.comes_back(PendingChoice.REFLASH, flashing=True)
    assert isinstance(result, CommittedJob), result
    assert (result.id, result.state) == ("job-2", JobState.PENDING)
    (waiting,) = two_lots.database.pending()
    assert (waiting.lot.recipe_hash, waiting.firmware_sha256) == (two_lots.new.hash, two_lots.new.firmware_sha256)
    assert two_lots.board.flash[: len(two_lots.new.image)][4:] == two_lots.new.image[4:]
