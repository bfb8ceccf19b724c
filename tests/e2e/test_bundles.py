"""Bundles from the drawing board to the bench: frozen, carried on a stick, released, made, succeeded, and brought back."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from station.adapters.records import Database
from station.bundle import freeze
from station.config import Config, WorkSection, load_config
from station.demo import write_demo_recipe
from station.model import Light
from station.recipe import load_recipe
from tests.adapters.records.samples import PENDING, board, record
from tests.e2e.command import PATIENCE_S, STATION, one_line, started, station, wait_for, write_config
from tests.e2e.workbench import JUMPER, Workbench, a_board, at_work, config_for, every_slot, jumper_bench, rows_of

EVERY_JOB = "SELECT state, outcome, recipe_hash FROM job ORDER BY sequence"


class Desk:
    """A drawing board with a recipe, a stick, and a machine with a station on it."""

    def __init__(self, directory: Path, more: str = "") -> None:
        self.directory, self.stick = directory, directory / "stick"
        self.stick.mkdir()
        self.recipe, _ = write_demo_recipe(directory / "drawing")
        (directory / "drawing" / "tree").mkdir()
        (directory / "drawing" / "tree" / "boot.py").write_text("import gc\n")
        self.recipe.write_text(self.recipe.read_text() + '\n[files]\ntree = "tree"\n')
        (directory / "etc").mkdir()
        (directory / "etc" / "state").mkdir()
        self.config = write_config(directory / "etc", "require_release = true\n" + more)

    def freeze(self, name: str = "thing.bundle", *more: object) -> Path:
        """Freeze the recipe onto the stick."""
        out = self.stick / name
        done = station("recipe", "freeze", self.recipe, out, *more)
        assert done.code == 0, done.err
        return out

    def take(self, file: Path) -> str:
        """Import it; return the first digits of its name."""
        done = station("recipe", "import", file, "--config", self.config, "--by", "Ada")
        assert done.code == 0, done.err
        return str(self.listed()[0]["bundle"])[:12]

    def listed(self) -> list[dict[str, Any]]:
        """What the records keep."""
        found: list[dict[str, Any]] = station("recipe", "list", "--config", self.config, "--json").json
        return found

    def place(self) -> Path:
        """Where the import put the bundle."""
        (place,) = (self.config.parent / "recipes").glob("*.bundle")
        return place

    def work(self, recipe: Path, *, require_lot: bool = True) -> None:
        """Name it in the configuration."""
        lot = "require_lot = true\n" if require_lot else ""
        write_config(self.config.parent, f'{lot}require_release = true\nrecipe = "{recipe}"\n')


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """One."""
    return Desk(tmp_path)


def test_a_recipe_travels_on_a_stick(desk: Desk) -> None:
    """Frozen here, imported there: the records and the directory of recipes have the very bytes, and the stick may go."""
    frozen = desk.freeze()
    content = frozen.read_bytes()
    key = desk.take(frozen)
    shutil.rmtree(desk.stick)
    shutil.rmtree(desk.recipe.parent)
    assert desk.place().read_bytes() == content
    (row,) = desk.listed()
    assert (row["state"], row["person"], row["size_bytes"]) == ("draft", "Ada", len(content))
    out = desk.directory / "again.bundle"
    assert station("recipe", "export", key, out, "--config", desk.config).code == 0
    assert out.read_bytes() == content
    checked = station("recipe", "check", desk.place())
    assert checked.code == 0, checked.err
    assert row["recipe_hash"][:8] in checked.out


def test_only_a_released_recipe_opens_a_lot(desk: Desk) -> None:
    """A draft is refused with the command that releases it; released it opens; withdrawn it never does again."""
    key = desk.take(desk.freeze())
    desk.work(desk.place())
    opens = ("lot", "open", "--config", desk.config, "--by", "Ada")
    said = one_line(station(*opens).refused(78))
    assert f"station recipe release {key} --by NAME --reason WHY" in said
    records = ("--config", desk.config, "--by", "Grace", "--reason", "looked at")
    assert station("recipe", "release", key, *records).code == 0
    assert station(*opens).code == 0
    assert station("lot", "close", "--config", desk.config, "--by", "Ada").code == 0
    assert station("recipe", "withdraw", key, *records).code == 0
    assert "is withdrawn" in one_line(station(*opens).refused(78))
    assert "for ever" in one_line(station("recipe", "release", key, *records).refused(78))
    (row,) = desk.listed()
    assert [(each["event"], each["person"]) for each in row["events"]] == [
        ("draft", "Ada"),
        ("release", "Grace"),
        ("withdraw", "Grace"),
    ]


def test_a_station_with_signers_imports_and_makes_signed_bundles_only(desk: Desk) -> None:
    """Keys are made, bundles signed after they were frozen; unsigned ones and plain recipes are refused at every door."""
    ada, eve = desk.directory / "ada.pem", desk.directory / "eve.pem"
    public = station("recipe", "key", ada, "--new").out.strip()
    assert station("recipe", "key", eve, "--new").code == 0
    assert station("recipe", "key", ada).out.strip() == public
    unsigned = desk.freeze()
    forged = desk.freeze("forged.bundle", "--sign", eve)
    signed = desk.stick / "signed.bundle"
    assert station("recipe", "freeze", unsigned, signed, "--sign", ada).code == 0
    write_config(desk.config.parent, f'signers = ["{public}"]\nrecipe = "{desk.recipe}"\n')
    for file, words in ((unsigned, "not signed"), (forged, "none of the keys")):
        importing = station("recipe", "import", file, "--config", desk.config, "--by", "Ada")
        assert words in one_line(importing.refused(78))
    assert "not signed" in one_line(station("run", "--config", desk.config).refused(78))
    desk.take(signed)
    assert desk.listed()[0]["signed_by"] == public


def test_what_freeze_and_import_refuse(desk: Desk) -> None:
    """An OUT that is no bundle's name or exists, a damaged stick, a recipe that is wrong: said, and nothing is left."""
    frozen = desk.freeze()
    before = frozen.read_bytes()
    assert "exists already" in one_line(station("recipe", "freeze", desk.recipe, frozen).refused(78))
    assert frozen.read_bytes() == before
    assert station("recipe", "freeze", desk.recipe, desk.stick / "thing.zip").refused(64)
    frozen.write_bytes(before[: len(before) // 2])
    importing = station("recipe", "import", frozen, "--config", desk.config, "--by", "Ada")
    assert "damaged" in one_line(importing.refused(78))
    desk.recipe.write_text(desk.recipe.read_text() + "[flash]\nmood = 1\n")
    out = desk.stick / "wrong.bundle"
    assert "mood" in one_line(station("recipe", "freeze", desk.recipe, out).refused(78))
    assert not out.exists()
    assert not (desk.config.parent / "recipes").exists()


def test_a_stick_is_read_once_and_what_was_read_is_what_is_kept(desk: Desk) -> None:
    """Pulled right after it was read, the import goes on; what was checked is what is kept, whatever the file is called."""
    content = desk.freeze().read_bytes()
    once = desk.stick / "THING.BUN"
    os.mkfifo(once)
    hand = threading.Thread(target=once.write_bytes, args=(content,))
    hand.start()
    done = station("recipe", "import", once, "--config", desk.config, "--by", "Ada")
    hand.join()
    assert done.code == 0, done.err
    assert desk.place().read_bytes() == content
    assert desk.listed()[0]["size_bytes"] == len(content)


def test_a_stick_that_is_pulled_while_it_is_read_leaves_nothing(desk: Desk) -> None:
    """The kernel's word is the only thing that is said; no row, no file, and the next import is as if nothing had been."""
    pulled = desk.stick / "pulled.bundle"
    pulled.symlink_to("/proc/self/mem")  # opens, and then every read is an input/output error
    importing = station("recipe", "import", pulled, "--config", desk.config, "--by", "Ada")
    assert "the bundle cannot be read (Input/output error)" in one_line(importing.refused(78))
    assert not (desk.config.parent / "recipes").exists()
    desk.take(desk.freeze())
    assert len(desk.listed()) == 1


def test_what_an_import_left_half_is_put_right(desk: Desk) -> None:
    """The machine died while it wrote: the same import again makes the file whole, and leaves no other beside it."""
    frozen = desk.freeze()
    desk.take(frozen)
    whole = frozen.read_bytes()
    place = desk.place()
    place.with_name(f".{place.name}.new").write_bytes(whole[:100])
    place.write_bytes(whole[:1000])
    desk.take(frozen)
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert place.read_bytes() == whole


def test_a_full_stick_keeps_no_half_bundle(desk: Desk) -> None:
    """What could not be written whole is gone, so that nobody carries it away and the next try can take the name."""
    out = desk.stick / "full.bundle"
    room = len(desk.freeze().read_bytes()) - 1
    command: list[str | Path] = ["prlimit", f"--fsize={room}", STATION, "recipe", "freeze", desk.recipe, out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 78, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert not out.exists()


def test_who_closes_a_lot_is_told_of_boards_that_wait(desk: Desk) -> None:
    """A lot that is closed cannot be succeeded any more, so the choice is named while somebody can still think of it."""
    write_config(desk.config.parent, f'require_lot = true\nrecipe = "{desk.recipe}"\n')
    for waiting in (False, True):
        assert station("lot", "open", "--config", desk.config, "--by", "Ada").code == 0
        with Database.open(load_config(desk.config).database_url) as database:
            lot = database.current_lot()
            assert lot is not None
            if waiting:
                image = load_recipe(desk.recipe).firmware_sha256
                record(database, "waits", lot, PENDING, identity=board(1), firmware_sha256=image)
        closed = station("lot", "close", "--config", desk.config, "--by", "Ada")
        assert closed.code == 0, closed.err
        assert ("note: 1 board of it waits for the test" in closed.err) == waiting


def test_backup_and_restore_bring_every_bundle_back(desk: Desk) -> None:
    """The machine is lost: bundles come back byte for byte, with what people said of them, and so does the named file."""
    key = desk.take(desk.freeze())
    content = desk.place().read_bytes()
    records = ("--config", desk.config, "--by", "Grace", "--reason", "looked at")
    assert station("recipe", "release", key, *records).code == 0
    desk.work(desk.place())
    assert station("lot", "open", "--config", desk.config, "--by", "Ada").code == 0
    listed, config = desk.listed(), desk.config.read_text()
    backup = desk.directory / "backup.tar.gz"
    done = station("backup", f"--to={backup}", "--config", desk.config)
    assert done.code == 0, done.err
    shutil.rmtree(desk.config.parent)
    (desk.config.parent / "state").mkdir(parents=True)
    desk.config.write_text(config)
    done = station("restore", backup, "--config", desk.config)
    assert done.code == 0, done.err
    assert desk.listed() == listed
    assert desk.place().read_bytes() == content
    out = desk.directory / "again.bundle"
    assert station("recipe", "export", key, out, "--config", desk.config).code == 0
    assert out.read_bytes() == content
    done = station("config", "check", desk.config)
    assert done.code == 0, done.err


def test_a_plain_recipe_with_files_comes_back_with_all_of_them(desk: Desk) -> None:
    """A lot was opened with it: its bundle is in the records of the backup, and every file it names beside them."""
    shutil.copytree(desk.recipe.parent, desk.config.parent / "recipes")
    recipe = desk.config.parent / "recipes" / desk.recipe.name
    write_config(desk.config.parent, f'require_lot = true\nrecipe = "{recipe}"\n')
    assert station("lot", "open", "--config", desk.config, "--by", "Ada").code == 0
    (row,) = desk.listed()
    before = load_recipe(recipe)
    backup, config = desk.directory / "backup.tar.gz", desk.config.read_text()
    assert station("backup", f"--to={backup}", "--config", desk.config).code == 0
    shutil.rmtree(desk.config.parent)
    (desk.config.parent / "state").mkdir(parents=True)
    desk.config.write_text(config)
    assert station("restore", backup, "--config", desk.config).code == 0
    assert load_recipe(recipe).files == before.files
    assert desk.listed() == [row]
    out = desk.directory / "kept.bundle"
    assert station("recipe", "export", row["bundle"], out, "--config", desk.config).code == 0
    again = desk.directory / "frozen.bundle"
    assert station("recipe", "freeze", desk.recipe, again).code == 0
    assert out.read_bytes() == again.read_bytes()


# --- lots that succeed one another, at the bench ---------------------------------------------------------------------------


def written(config: Config, directory: Path) -> Path:
    """The same configuration as a file, for the commands."""
    file = directory / "station.toml"
    file.write_text(
        f'[station]\nid = "test"\nstate_dir = "{config.station.state_dir}"\n[work]\nrecipe = "{config.work.recipe}"\n'
    )
    return file


def at_jumpers(config: Config, work: Any) -> None:
    """Do this work at a bench of jumper sticks."""

    async def main() -> None:
        async with at_work(config, kinds=every_slot(config, JUMPER)) as at:
            await work(at)

    asyncio.run(main())


@pytest.mark.parametrize("choice", ["finish", "reflash"])
def test_a_lot_is_succeeded_beside_the_running_station(tmp_path: Path, choice: str) -> None:
    """The old station stops at once; the next one makes the new recipe, from its bundle, and does with the board as chosen."""
    config = jumper_bench(tmp_path)
    file = written(config, tmp_path)
    board = a_board()
    plain, _ = write_demo_recipe(tmp_path / "new", '\n[policy]\ncold_boot = "all"\nattempts = 4\n')
    old_hash, new_hash = load_recipe(Path(config.work.recipe)).hash, load_recipe(plain).hash
    new = tmp_path / "new.bundle"
    new.write_bytes(freeze(load_recipe(plain)).content)
    shutil.rmtree(plain.parent)

    async def first_shift(at: Workbench) -> None:
        assert (await at.visit("A1", board)).headline == "TEST NEXT"
        command = ("lot", "succeed", "--config", file, "--recipe", new, "--pending", choice, "--by", "Ada")
        done = await asyncio.to_thread(station, *command)
        assert done.code == 0, done.err
        assert "restart the station" in done.out
        await at.floor.keep_books()
        await at.plug("A1", a_board())
        await at.until(lambda: at.view().headline == "NO WORK ORDER")
        await at.pull("A1")

    async def second_shift(at: Workbench) -> None:
        if choice == "reflash":
            assert (await at.visit("A1", board, low=False)).light is Light.ACTION
            assert (await at.visit("A1", board)).headline == "TEST NEXT"
        assert (await at.visit("A1", board, low=False)).light is Light.PASS

    at_jumpers(config, first_shift)
    # The old recipe's files are gone: what is finished under it comes from the records.
    shutil.rmtree(Path(config.work.recipe).parent)
    after = load_config(file)
    assert Path(after.work.recipe) == new
    at_jumpers(jumper_bench_with(config, new), second_shift)
    jobs = {
        "finish": [("closed", "PASS", old_hash)],
        "reflash": [("closed", "ABORTED", old_hash), ("closed", "PASS", new_hash)],
    }
    assert rows_of(config, EVERY_JOB) == jobs[choice]
    assert rows_of(config, "SELECT pending, pending_jobs, person FROM succession") == [(choice, 1, "Ada")]


def jumper_bench_with(config: Config, recipe: Path) -> Config:
    """The same bench, with another recipe."""
    return config_for(
        Path(config.station.state_dir).parent,
        recipe,
        slot_defaults=config.slot_defaults,
        work=WorkSection(recipe=str(recipe)),
    )


def test_a_lot_is_not_succeeded_by_itself_nor_where_none_is(desk: Desk) -> None:
    """The same recipe, no lot, a recipe that is not released: one line each, and neither lot nor configuration changes."""
    write_config(desk.config.parent, f'require_lot = true\nrecipe = "{desk.recipe}"\n')
    succeed = ("lot", "succeed", "--config", desk.config, "--recipe", desk.recipe, "--pending", "scrap", "--by", "Ada")
    assert "nothing to succeed" in one_line(station(*succeed).refused(78))
    assert station("lot", "open", "--config", desk.config, "--by", "Ada").code == 0
    assert "the very same recipe" in one_line(station(*succeed).refused(78))
    write_config(desk.config.parent, f'require_lot = true\nrequire_release = true\nrecipe = "{desk.recipe}"\n')
    new, _ = write_demo_recipe(desk.directory / "new", "\n[policy]\nattempts = 4\n")
    said = station(*succeed[:5], new, *succeed[6:])
    assert "not released" in one_line(said.refused(78))
    lots = rows_of(load_config(desk.config), "SELECT state, recipe_hash FROM lot")
    assert lots == [("open", load_recipe(desk.recipe).hash)]
    assert load_config(desk.config).work.recipe == str(desk.recipe)


def test_a_first_article_leads_to_a_release(desk: Desk) -> None:
    """One board of a draft is made by hand; its job is named in the release, another one is refused; then a lot opens."""
    key = desk.take(desk.freeze())
    desk.work(desk.place())
    ports = desk.directory / "ports"
    with started(desk.directory / "bench", "bench", "--slots", 1, "--dir", ports, "--pace", 0) as bench:
        wait_for((ports / "A1").is_symlink, "the tty", bench)
        flash = ("flash", "--json", "--port", ports / "A1", "--recipe", desk.place(), "--config", desk.config)
        made = station(*flash)
        assert made.code == 0, made.err
        assert bench.end().code == 0
    (job,) = made.json["jobs"]
    assert job["outcome"] == "PASS"
    release = (
        "recipe",
        "release",
        key,
        "--config",
        desk.config,
        "--by",
        "Grace",
        "--reason",
        "measured",
        "--first-article",
    )
    assert "there is no such job" in one_line(station(*release, "another").refused(78))
    assert station(*release, job["job"]).code == 0
    assert desk.listed()[0]["events"][-1]["first_article_job"] == job["job"]
    assert station("lot", "open", "--config", desk.config, "--by", "Ada").code == 0
