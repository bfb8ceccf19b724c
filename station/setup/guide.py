"""`station setup`: from a fresh installation to the first green board, by questions in the terminal.

Every step looks first at what is there already, so the whole may be run again at any time and a finished step costs one
Enter; `<` goes back to the step before. What a step has found out is on disk before the next one begins: whoever ends this
in the middle has a configuration and a slot map that are valid. It never opens a port; the station that runs does the work.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from station.adapters import page, service
from station.adapters.config_file import set_values
from station.bundle import look_into
from station.config import Config, load_config
from station.errors import ConfigurationError
from station.recipe import Recipe, load_recipe, new_recipe_text, read_file, trailer_problem
from station.setup.teaching import Voice, grid_wanted, run_lesson, taught_so_far
from station.slotmap import known_places
from station.sockets import drawing, grid_of
from station.views import Level

LOOK_EVERY_S = 0.3
BACK = "<"
_STILL_TO_COME = ("recipe", "slots")
"""Checks of the doctor that later steps are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was said beforehand by options; None is asked for."""

    config_file: Path
    state_dir: Path
    """Written into a configuration that is made anew, where it is not the default."""
    operator: str | None = None
    rows: int | None = None
    columns: int | None = None
    image: Path | None = None
    product: str | None = None
    start: bool | None = None
    board: bool | None = None


class Stopped(Exception):
    """A person ended the wizard inside a step."""


class _GoBack(Exception):
    """A person wants the step before."""


def set_up(wish: Wish, voice: Voice) -> None:
    """Go through all steps; raises `Stopped`, KeyboardInterrupt and `ConfigurationError`, and leaves a valid state."""
    guide = _Guide(wish, _Steps(voice))
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("Is this machine fit?", guide.doctor),
        ("Who works here?", guide.name),
        ("Which socket is which slot?", guide.teach),
        ("What is made?", guide.recipe),
        ("Start the station", guide.start),
        ("The first board", guide.board),
    )
    voice.say(f"Enter takes what stands in brackets, {BACK} goes back one step, Ctrl-C ends: what is done stays.")
    at = 0
    while at < len(steps):
        title, step = steps[at]
        voice.say(f"\n{at + 1} of {len(steps)}  {title}")
        try:
            step()
        except _GoBack:
            at = max(0, at - 1)
        else:
            at += 1


class _Steps:
    """The voice, with a way back at every question."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self.say = voice.say

    def ask(self, question: str, default: str) -> str:
        answer = self._voice.ask(question, default)
        if answer == BACK:
            raise _GoBack
        return answer

    def confirm(self, question: str, *, default: bool) -> bool:
        while True:
            answer = self.ask(f"{question} (y/n)", "y" if default else "n").lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")
            self.say("answer y or n")


class _Guide:
    def __init__(self, wish: Wish, voice: _Steps) -> None:
        self._wish, self._voice, self._file = wish, voice, wish.config_file
        self._changed = False
        if not self._file.exists():
            standard = Config()
            state_dir = {} if wish.state_dir == standard.state_dir else {("station", "state_dir"): str(wish.state_dir)}
            self._write(state_dir)
            voice.say(f"a new configuration: {self._file}")

    def doctor(self) -> None:
        from station.doctor import examine

        while True:
            looked = [each for each in examine(self._config()) if each.check not in _STILL_TO_COME]
            found = [each for each in looked if each.level is not Level.OK]
            for each in found:
                self._voice.say(f"  {each.level}: {each.check}: {each.said}")
                if each.fix:
                    self._voice.say(f"    {each.fix}")
            if not any(each.level is Level.PROBLEM for each in found):
                self._voice.say("nothing stands in the way" if not found else "warnings only: the station can work")
                return
            if not self._voice.confirm("Problems first: mended, look again? (n goes on with them)", default=False):
                return

    def name(self) -> None:
        now = self._config().station.operator
        usual = now or os.environ.get("SUDO_USER") or getpass.getuser()
        name = self._wish.operator or self._voice.ask("Name that goes on record with every board", usual)
        self._write({("station", "operator"): name})
        self._voice.say(f"{name} works here")

    def teach(self) -> None:
        config, wish = self._config(), self._wish
        known = known_places(config)
        if known:
            rows, columns = grid_of(known)
            self._voice.say(drawing(rows, columns, done=known, wanted="") if rows else "")
            self._voice.say(taught_so_far(config))
            asked = wish.rows is not None or wish.columns is not None
            if not asked and not self._voice.confirm("Teach more sockets?", default=False):
                return
        else:
            self._voice.say(
                "On the page row A is at the top and column 1 at the left: say how the sockets stand on the bench."
            )
            self._voice.say("One programmer is enough; plug it into socket after socket, as asked.")
        rows, columns = grid_wanted(config, self._voice, wish.rows, wish.columns)
        if not run_lesson(config, self._voice, rows, columns, None, may_ask=True):
            raise Stopped
        self._changed |= known_places(config) != known

    def recipe(self) -> None:
        config = self._config()
        if config.work.recipe and self._keeps(config):
            return
        image = self._image()
        if image is None:
            self._voice.say("later, then: until a recipe is named the station shows its slots and touches no board")
            return
        product = self._wish.product or self._voice.ask("What is the product called?", image.stem)
        made = self._make_recipe(image, product)
        self._write({("work", "recipe"): str(made.relative_to(self._file.parent.resolve()))})
        self._say_recipe(load_recipe(made))

    def start(self) -> None:
        config = self._config()
        if not self._changed and self._shows_our_work(config, page.read_view(config.http.listen)):
            self._voice.say(f"it runs already: http://{config.http.listen}/")
            return
        installed, root = service.unit_is_installed(), os.geteuid() == 0
        if installed and root:
            wanted = self._wish.start
            if wanted is None:
                wanted = self._voice.confirm("Start the station now, anew if it runs?", default=True)
            problem = service.restart() if wanted else "not started"
            self._voice.say(f"{problem}; later: systemctl restart station" if problem else "started")
            if problem:
                return
        elif self._wish.start is False:
            self._voice.say("not started")
            return
        else:
            command = "sudo systemctl restart station" if installed else f"station run --config {self._file}"
            self._voice.say(f"in another terminal: {command}")
        self._wait_for_page(config)
        self._changed = False

    def board(self) -> None:
        config = self._config()
        if page.read_view(config.http.listen) is None:
            self._voice.say("the station does not run; start it, then: station setup")
            raise Stopped
        if not config.work.recipe:
            self._voice.say("no recipe yet: station setup again, as soon as there is a firmware image")
            raise Stopped
        wanted = self._wish.board
        if wanted is None:
            wanted = self._voice.confirm("Make a board now, to see a green light?", default=True)
        if wanted:
            self._voice.say("put a board into any slot; its words follow here")
            self._voice.say(f"{self._first_green(config)} is green: the station works")
        self._voice.say(
            f"\nReady. The page: http://{config.http.listen}/   Again, or to change something: station setup"
        )

    # -- what the steps need -----------------------------------------------------------------------------------------

    def _config(self) -> Config:
        return load_config(self._file)

    def _write(self, values: Mapping[tuple[str, str], str]) -> None:
        self._changed |= set_values(self._file, values or {})

    def _keeps(self, config: Config) -> bool:
        """Whether the recipe that is there is good and stays."""
        try:
            self._say_recipe(look_into(Path(config.work.recipe)))
        except ConfigurationError as error:
            self._voice.say(str(error))
            return False
        return self._wish.image is None and self._voice.confirm("Keep this recipe?", default=True)

    def _say_recipe(self, recipe: Recipe) -> None:
        firmware = (
            f"MicroPython {recipe.firmware_version}" if recipe.firmware_version else "firmware of unknown version"
        )
        self._voice.say(f"{recipe.name} {recipe.version} [{recipe.short_hash}]: {firmware}, {len(recipe.image)} bytes")

    def _image(self) -> Path | None:
        """Return an image that can be flashed; None for later. What cannot be used is said, and asked for again."""
        default = _newest_image((self._recipes_dir(), Path.cwd(), Path.home() / "Downloads"))
        while True:
            said = str(self._wish.image or self._voice.ask("Firmware image, a .bin file (empty: later)", default))
            if not said:
                return None
            image = Path(said).expanduser()
            try:
                new_recipe_text(image, image.with_suffix(".toml"))
            except ConfigurationError as error:
                if self._wish.image is not None:
                    raise
                self._voice.say(str(error))
                default = ""
            else:
                return image

    def _recipes_dir(self) -> Path:
        return self._file.parent.resolve() / "recipes"

    def _make_recipe(self, image: Path, product: str) -> Path:
        """Put image and recipe beside the configuration, where the service may read them; what is there is not changed."""
        directory = self._recipes_dir()
        name = re.sub(r"[^\w.-]+", "-", product).strip("-.") or "board"
        try:
            directory.mkdir(exist_ok=True)
            kept = _free_name(directory / image.name, image.read_bytes())
            if not kept.exists():
                shutil.copyfile(image, kept)
            # Called as the person says, whatever the file is called.
            text = new_recipe_text(kept, directory / f"{product.replace('/', ' ')}.toml")
            out = _free_name(directory / f"{name}.toml", text.encode())
            if not out.exists():
                out.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                file=str(directory),
                problem=f"cannot be written ({error.strerror})",
                fix="run as root: sudo station setup",
            ) from None
        problem = trailer_problem(read_file(kept, what="firmware image"))
        if problem:
            self._voice.say(
                f"warning: the image does not prove by itself that it is whole ({problem}); fetch MicroPython again"
            )
        return out

    def _shows_our_work(self, config: Config, view: dict[str, Any] | None) -> bool:
        """Whether the station that answers makes this recipe in these slots."""
        if view is None:
            return False
        recipe_hash = look_into(Path(config.work.recipe)).short_hash if config.work.recipe else ""
        slots = {slot["slot"]: slot["place"] for slot in view["slots"] if slot["known"]}
        return view["recipe_hash"] == recipe_hash and slots == known_places(config)

    def _wait_for_page(self, config: Config) -> None:
        self._voice.say(f"waiting for http://{config.http.listen}/ (Ctrl-C ends)")
        said = False
        while not self._shows_our_work(config, view := page.read_view(config.http.listen)):
            if view is not None and not said:
                self._voice.say("a station answers that began before all this; it must be started anew")
                said = True
            time.sleep(LOOK_EVERY_S)
        self._voice.say("the station runs")

    def _first_green(self, config: Config) -> str:
        """Say the words of every slot as they change; return the label of the first one that is green."""
        before: dict[str, str] = {}
        while True:
            view = page.read_view(config.http.listen)
            for slot in view["slots"] if view else ():
                words = " ".join(filter(None, (slot["headline"], slot["phase"] or "", _without(slot["words"]))))
                deed = f" -> {slot['deed']}" if slot["deed"] else ""
                if before.get(slot["slot"], "EMPTY") != words + deed:
                    self._voice.say(f"  {slot['slot']}: {words}{deed}")
                before[slot["slot"]] = words + deed
                if slot["known"] and slot["light"] == "PASS":
                    return str(slot["slot"])
            time.sleep(LOOK_EVERY_S)


def _without(words: str) -> str:
    return f"({words})" if words else ""


def _newest_image(directories: tuple[Path, ...]) -> str:
    """The newest .bin file of the first of these directories that has one; empty when none has."""
    for directory in directories:
        try:
            found = sorted(directory.glob("*.bin"), key=lambda path: path.stat().st_mtime)
        except OSError:
            continue
        if found:
            return str(found[-1])
    return ""


def _free_name(path: Path, content: bytes) -> Path:
    """This path, or the next one by number that is free or has this very content."""
    number, wanted = 1, path
    while wanted.exists() and wanted.read_bytes() != content:
        number += 1
        wanted = path.with_stem(f"{path.stem}-{number}")
    return wanted
