"""The udev rules in force: what hides what, what brltty claims, and what our own rule covers."""

from __future__ import annotations

from pathlib import Path

import pytest

from station.adapters.machine.rules import OUR_RULE, brltty_claims, files_in_force, our_rule
from station.config import DEFAULT_USB_IDS
from tests.adapters.machine_rig import CLAIM_BEHIND_HUB, DIRECT_CLAIM, MadeUpMachine

SHIPPED = Path(__file__).parents[2] / "deploy/udev" / OUR_RULE


@pytest.fixture
def machine(tmp_path: Path) -> MadeUpMachine:
    """A machine without rules."""
    return MadeUpMachine(tmp_path)


def claims(machine: MadeUpMachine, *usb_ids: str) -> list[tuple[str, str, str]]:
    """What brltty claims, as (file, id, hub)."""
    return [(each.file, each.usb_id, each.behind) for each in brltty_claims(machine.root, usb_ids or DEFAULT_USB_IDS)]


@pytest.mark.parametrize("directory", ["etc", "run", "usr/lib", "lib", "usr/local/lib"])
def test_a_direct_claim_is_found_wherever_udev_looks(machine: MadeUpMachine, directory: str) -> None:
    """Ubuntu 22.04's rule is found in every directory of rules, with the file as it stands on the machine."""
    machine.write(f"{directory}/udev/rules.d/85-brltty.rules", f"# Device: 1A86:7523\n{DIRECT_CLAIM}")
    assert claims(machine) == [(f"/{directory}/udev/rules.d/85-brltty.rules", "1a86:7523", "")]


def test_a_claim_behind_a_hub_names_the_hub(machine: MadeUpMachine) -> None:
    """Brltty 6.6 claims a CH340 only behind a 1a40:0101 hub, and that is what is said."""
    machine.write("usr/lib/udev/rules.d/90-brltty-device.rules", CLAIM_BEHIND_HUB)
    assert claims(machine) == [("/usr/lib/udev/rules.d/90-brltty-device.rules", "1a86:7523", "1a40:0101")]


def test_a_claim_by_attributes_over_two_lines_is_found(machine: MadeUpMachine) -> None:
    """A rule that goes on behind a backslash, and matches by idVendor and idProduct, is one rule and a direct claim."""
    rule = 'SUBSYSTEM=="usb", ATTR{idVendor}=="1a86", \\\n ATTR{idProduct}=="5523|7523", RUN+="/lib/udev/brltty.sh"\n'
    machine.write("etc/udev/rules.d/brltty.rules", rule)
    assert [(usb_id, hub) for _, usb_id, hub in claims(machine)] == [("1a86:7523", ""), ("1a86:5523", "")]


def test_ids_with_leading_zeros_are_matched_as_the_kernel_writes_them(machine: MadeUpMachine) -> None:
    """PRODUCT has no leading zeros: `2184/57/…` is the id 2184:0057, and `403/…` is nobody of ours."""
    text = 'ENV{PRODUCT}=="2184/57/*|403/6001/*", ENV{BRLTTY_BRAILLE_DRIVER}="xx"\n'
    machine.write("usr/lib/udev/rules.d/85-brltty.rules", text)
    assert [usb_id for _, usb_id, _ in claims(machine)] == ["2184:0057"]


@pytest.mark.parametrize(
    "text",
    [
        f"# {DIRECT_CLAIM}",
        DIRECT_CLAIM.replace("1a86/7523", "1a86/7584"),
        DIRECT_CLAIM.replace("BRLTTY_BRAILLE", "OTHER").replace("brltty", "other"),
    ],
    ids=["commented out", "another adapter", "not for brltty"],
)
def test_what_claims_nothing_of_ours_is_no_claim(machine: MadeUpMachine, text: str) -> None:
    """Ubuntu 26.04 has the line commented out; other adapters and other programs are not ours to judge."""
    machine.write("usr/lib/udev/rules.d/85-brltty.rules", f"# brltty\n{text}")
    assert claims(machine) == []


def test_a_package_that_ships_only_examples_claims_nothing(machine: MadeUpMachine) -> None:
    """Debian 12 ships brltty's rules as documents."""
    machine.write("usr/share/doc/brltty/examples/85-brltty.rules", DIRECT_CLAIM)
    assert claims(machine) == []


def test_a_mask_switches_a_rule_off(machine: MadeUpMachine) -> None:
    """A link to /dev/null, or an empty file, in /etc hides the rule of the same name."""
    machine.write("usr/lib/udev/rules.d/85-brltty.rules", DIRECT_CLAIM)
    mask = machine.root / "etc/udev/rules.d/85-brltty.rules"
    mask.symlink_to("/dev/null")
    assert claims(machine) == []
    mask.unlink()
    assert len(claims(machine)) == 1
    mask.write_text("")
    assert claims(machine) == []


def test_our_own_rule_can_be_masked_too(machine: MadeUpMachine) -> None:
    """A mask over our rule is as though it were not installed, and not a rule that covers nothing."""
    machine.write(f"usr/lib/udev/rules.d/{OUR_RULE}", SHIPPED.read_text())
    (machine.root / "etc/udev/rules.d" / OUR_RULE).symlink_to("/dev/null")
    assert our_rule(machine.root) is None


def test_a_file_in_etc_hides_the_one_of_the_package(machine: MadeUpMachine) -> None:
    """The name decides: a copy in /etc without the claim is the one that counts."""
    machine.write("usr/lib/udev/rules.d/85-brltty.rules", DIRECT_CLAIM)
    machine.write("etc/udev/rules.d/85-brltty.rules", f"#{DIRECT_CLAIM}")
    machine.write("etc/udev/rules.d/README", DIRECT_CLAIM)
    assert claims(machine) == []
    assert [file.parent.parent.parent.name for file in files_in_force(machine.root)] == ["etc"]


def test_the_shipped_rule_covers_every_default_id(machine: MadeUpMachine) -> None:
    """The rule of this version, read as udev reads it, tags every default id, and keeps ModemManager from each."""
    assert our_rule(machine.root) is None
    machine.write(f"usr/lib/udev/rules.d/{OUR_RULE}", SHIPPED.read_text())
    rule = our_rule(machine.root)
    assert rule is not None
    assert rule.file == f"/usr/lib/udev/rules.d/{OUR_RULE}"
    assert rule.tagged == rule.kept_from_modemmanager == set(DEFAULT_USB_IDS)
    assert rule.group == "dialout"


def test_a_directory_that_may_not_be_read_is_an_error(machine: MadeUpMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hidden from us is never taken for nothing."""
    iterdir = Path.iterdir

    def refuse(path: Path):
        if path.name == "rules.d":
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError):
        claims(machine)
