"""What the groups of cases share in one boot: the teller, the bench, the configuration that the station gets."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.guest.bench import SLOTS, TOWER_PLACE, Bench, place
from tests.acceptance.guest.system import run
from tests.acceptance.guest.telling import CaseFailed, Teller

CONFIG = Path("/etc/station/station.toml")
RECIPES = Path("/etc/station/recipes")
PACKAGES = Path("/acceptance/packages")
BACKUPS = Path("/var/backups/station")
DROP_IN = Path("/run/systemd/system/station.service.d/acceptance.conf")
BATCH_S = 200.0
"""So long a batch of eight boards may take in an emulated machine."""

CONFIGURATION = f"""# Written by the person who set up this bench.
[station]
id = "acceptance"
operator = "acceptance"

[usb]
excluded = ["{TOWER_PLACE}"]

[slots]
{"".join(f'{label} = "{place(label)}"' + chr(10) for label in SLOTS)}
[work]
recipe = "recipes/small.toml"

[flashing]
# An emulated machine is slow: one rate, and everything may take longer.
baud_ladder = [115200]
connect_attempts = 8
progress_deadline_s = 90.0
job_deadline_s = 600.0
boot_deadline_s = 120.0
check_deadline_s = 90.0

[backup]
directory = "{BACKUPS}"

[shutdown]
finish_s = 1.0
"""


@dataclass(slots=True, kw_only=True)
class World:
    """One boot. `bench` is there once a group started it."""

    tell: Teller
    kept: Path
    boot: int
    bench: Bench | None = field(default=None)
    driver_at_start: bool = True
    """Whether the adapters' driver was loaded when the configured unit was started in the first boot."""

    def start_bench(self, *options: str) -> Bench:
        """Start the hands, with boards that no earlier boot has seen, and a tower light."""
        self.bench = Bench(*options, seed=1000 * self.boot, log=self.kept / f"boot-{self.boot}-bench.log")
        return self.bench

    @property
    def the_bench(self) -> Bench:
        """The hands; raises `CaseFailed` where they could not be started."""
        if self.bench is None:
            raise CaseFailed("there is no bench: it was not started, or did not come up")
        return self.bench

    def close(self) -> None:
        """End the hands."""
        if self.bench is not None:
            self.bench.close()


def configure() -> None:
    """Write configuration, recipe and image, as a person with root rights does."""
    for path in Path("/acceptance/recipes").iterdir():
        shutil.copyfile(path, RECIPES / path.name)
        (RECIPES / path.name).chmod(0o644)
    CONFIG.write_text(CONFIGURATION, encoding="utf-8")


def install(package: Path) -> str:
    """Install a package file the way a user does; return what apt said. Raises CalledProcessError."""
    done = run("apt-get", "install", "--yes", "-o", "Dpkg::Use-Pty=0", str(package), limit_s=180)
    return done.stdout + done.stderr
