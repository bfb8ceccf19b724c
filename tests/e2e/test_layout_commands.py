"""`station recipe layouts` and `station recipe forget-layout`: what was learned of images, and that it can be taken back."""

from __future__ import annotations

from pathlib import Path

from station.adapters.records import Database
from station.layouts import Layout
from tests.e2e.command import station

IMAGE, FLASH = "3fa9c2d4" * 8, 1 << 20


def test_a_person_sees_what_was_learned_and_takes_it_back(tmp_path: Path) -> None:
    """Listed by image, size and place; forgotten with name and reason, which the list shows from then on."""
    url = f"sqlite:///{tmp_path / 'station.db'}"
    with Database.open(url) as database:
        database.learn_layout(IMAGE, FLASH, Layout(first_sector=153, sectors=98))
    listed = station("recipe", "layouts", "--db", url).out
    assert "3fa9c2d43fa9   1024 KB  sector 153, 98 sectors  firmware of unknown version, learned 20" in listed
    forget = ("recipe", "forget-layout", "3FA9C2D4", "--db", url)
    assert "--by" in station(*forget, "--reason", "why").refused(64)
    done = station(*forget, "--by", "Grace", "--reason", "another build")
    assert (done.code, done.out) == (0, "forgotten for 1 size of flash, by Grace\n"), done.err
    (row,) = station("recipe", "layouts", "--db", url, "--json").json
    assert (row["firmware_sha256"], row["layout"]) == (IMAGE, {"first_sector": 153, "sectors": 98})
    assert (row["person"], row["reason"]) == ("Grace", "another build")
    assert ", Grace: another build\n" in station("recipe", "layouts", "--db", url).out
    again = station(*forget, "--by", "Grace", "--reason", "again").refused(78)
    assert "nothing is known of such an image" in again


def test_without_records_nothing_is_made(tmp_path: Path) -> None:
    """A wrong path is said to be wrong, and no empty records appear there."""
    url = f"sqlite:///{tmp_path / 'none.db'}"
    station("recipe", "layouts", "--db", url).refused(78)
    assert list(tmp_path.iterdir()) == []
