"""What the recipe wants of the board's radio: the files that it takes, the code, and what is never on record."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from station.network import DEFAULT_BOOT_PY, files_with_network, proof_checks, set_up_checks
from station.recipe import FilesPlan, NetworkSection, SourceFile
from station.recipe.template import fill
from station.selftest import parse, required_measurements
from tests.unit.job_rig import visited
from tests.unit.scripted_board import ScriptedBoard
from tests.unit.small_image import small_recipe

NAMES = {"secret.key": 'it\'s \\ a "key"', "secret.web": "p'w\\"}
FULL = NetworkSection(ssid="caf\u00e9 'net'", key_secret="key", join_within_s=3.0, webrepl_secret="web")  # noqa: S106 - names


def plan_with(boot: bytes, *, delete: tuple[str, ...] = ()) -> FilesPlan:
    """A plan that has a boot.py."""
    return FilesPlan(files=(SourceFile(path="boot.py", content=boot, fill_in=True),), delete=delete)


def files_in(plan: FilesPlan) -> dict[str, bytes]:
    """Path -> content."""
    return {file.path: file.content for file in plan.files}


def test_a_plan_without_webrepl_stays_what_it_is() -> None:
    """Nothing is added that nobody asked for."""
    plan = plan_with(b"x = 1\n")
    assert files_with_network(plan, NetworkSection()) is plan


def test_webrepl_is_a_password_and_two_lines_of_boot_py() -> None:
    """The password's file is filled in later, quoted as Python; boot.py is the firmware's own with WebREPL started."""
    plan = files_with_network(FilesPlan(), FULL)
    files = files_in(plan)
    assert files["boot.py"] == DEFAULT_BOOT_PY + b"import webrepl\nwebrepl.start()\n"
    namespace: dict[str, str] = {}
    exec(fill(files["webrepl_cfg.py"], NAMES), namespace)  # noqa: S102 - two lines of our own
    assert namespace["PASS"] == NAMES["secret.web"]
    assert [file.path for file in plan.files] == sorted(files)


@pytest.mark.parametrize(
    ("boot", "expected"),
    [
        (b"x = 1", b"x = 1\nimport webrepl\nwebrepl.start()\n"),
        (
            b"#import webrepl\n#webrepl.start()\n",
            b"#import webrepl\n#webrepl.start()\nimport webrepl\nwebrepl.start()\n",
        ),
        (b"import webrepl\nwebrepl.start(port=1)\n", b"import webrepl\nwebrepl.start(port=1)\n"),
        (b"", b"import webrepl\nwebrepl.start()\n"),
    ],
)
def test_a_boot_py_of_the_recipe_gets_what_it_lacks(boot: bytes, expected: bytes) -> None:
    """Lines are added once, behind what is there; a comment starts nothing; and what is needed is not deleted."""
    plan = files_with_network(plan_with(boot, delete=("boot.py", "main.py")), FULL)
    assert files_in(plan)["boot.py"] == expected
    assert plan.delete == ("main.py",)
    assert next(file for file in plan.files if file.path == "boot.py").fill_in


def test_whatever_is_in_a_name_or_a_key_the_code_is_code() -> None:
    """Quotes, backslashes and letters beyond ASCII arrive as they are, in code that any raw REPL takes."""
    checks = (*set_up_checks(FULL, NAMES), *proof_checks(FULL, NAMES))
    assert [check.name for check in checks] == [
        "access_point", "network", "access_point", "network_ssid", "network_join", "webrepl",
    ]  # fmt: skip
    for check in checks:
        ast.parse(check.code)
        assert check.code.isascii()
        assert check.code.replace("\n", "").isprintable()
    connect = next(check.code for check in checks if check.name == "network")
    credentials = ast.literal_eval(connect.partition("w.connect")[2].partition("\n")[0])
    assert credentials == (FULL.ssid, NAMES["secret.key"])


def test_no_secret_becomes_a_measurement() -> None:
    """What the proofs leave on record is yes or no, a name, and a time."""
    for check, payload in zip(proof_checks(FULL, NAMES), (b"false", b'"x"', b"1200", b"true"), strict=True):
        for measured in parse(check, payload):
            kept = f"{measured.value} {measured.low} {measured.high}"
            assert not any(secret in kept for secret in NAMES.values())


def test_a_recipe_that_keeps_the_access_point_asks_nothing_of_it(tmp_path: Path) -> None:
    """`access_point = "keep"`: no order, no proof, no evidence needed; the board's own stays as it was."""
    recipe = small_recipe(tmp_path, '[network]\naccess_point = "keep"\n')
    assert set_up_checks(recipe.network, {}) == proof_checks(recipe.network, {}) == ()
    assert "access_point_off" not in required_measurements(recipe)
    board = ScriptedBoard()
    assert visited(board, recipe).job.outcome == "PASS"
    assert board.access_point


def test_an_access_point_that_is_on_again_after_the_restart_is_a_fail() -> None:
    """It is judged by what the board says after its restart, not by the order that it was given."""
    board = ScriptedBoard(checks={"access_point": b"true"})
    shown = visited(board)
    assert (shown.job.outcome, shown.job.reason) == ("FAIL", "access_point_open")


def test_a_good_board_leaves_with_its_access_point_off() -> None:
    """The default recipe switches it off, and has it on record."""
    board = ScriptedBoard()
    shown = visited(board)
    assert not board.access_point
    taken = next(each for each in shown.job.measurements if each.name == "access_point_off")
    assert (taken.value, taken.within) == (True, True)
