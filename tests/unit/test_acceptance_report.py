"""The judge of the acceptance run: a run is passed only when every case of the list said so itself."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.acceptance import run
from tests.acceptance.guest.cases import CASES
from tests.acceptance.guest.main import GROUPS
from tests.acceptance.machine import listen
from tests.acceptance.report import Report


def _said(name: str, *, passed: bool = True) -> dict[str, object]:
    return {"case": name, "passed": passed, "seconds": 1.5, "said": "seen"}


def _all_but(*left_out: str) -> Report:
    report = Report()
    for name in CASES:
        if name not in left_out:
            report.hear(_said(name))
    return report


def test_all_cases_passed_is_a_passed_run() -> None:
    """A run in which every case of the list reported that it passed is passed."""
    assert _all_but().passed


@pytest.mark.parametrize("name", CASES)
def test_a_silent_case_fails_the_run(name: str) -> None:
    """A case that never reported is in the table as not reported, and the run is not passed."""
    report = _all_but(name)
    assert not report.passed
    assert f"{name:<28} NOT REPORTED" in report.text()


def test_a_failed_case_fails_the_run(tmp_path: Path) -> None:
    """One failed case is in both files with what it saw, and the run is not passed."""
    report = _all_but("storm")
    report.hear(_said("storm", passed=False))
    report.write(tmp_path)
    whole = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert whole["passed"] is False
    assert [case for case in whole["cases"] if case["result"] != "passed"] == [
        {"case": "storm", "result": "FAILED", "seconds": 1.5, "said": "seen"}
    ]
    assert "21 of 22 cases passed: FAILED" in (tmp_path / "report.txt").read_text(encoding="utf-8")


def test_trouble_beside_the_cases_fails_the_run() -> None:
    """A guest that broke down, or a case that is not on the list or comes twice, is not outweighed by passed cases."""
    for said in ({"trouble": "boot 2: broken"}, _said("unheard_of"), _said("storm")):
        report = _all_but()
        report.hear(said)
        assert not report.passed


def test_what_is_said_in_pieces_is_heard_whole(tmp_path: Path) -> None:
    """Lines of the guest's port are heard once each, whatever pieces they come in; what is no object is not heard."""
    port, over = tmp_path / "port", threading.Event()
    heard: list[object] = []
    port.write_bytes(b"")
    thread = threading.Thread(target=listen, args=(port, over, heard.append))
    thread.start()
    with port.open("ab", buffering=0) as file:
        for piece in (b'SeaBIOS\r\n{"note"', b': "one"}\n[1]\n{"no', b'te": "two"}\n', b'{"note": "cut'):
            file.write(piece)
    over.set()
    thread.join()
    assert heard == [{"note": "one"}, {"note": "two"}]


def test_every_group_is_run_once() -> None:
    """Each group of cases belongs to one boot and has a name of its own, by which it can be asked for."""
    names = [group.__name__ for groups in GROUPS.values() for group in groups]
    assert len(names) == len(set(names))


def test_a_machine_that_cannot_run_the_guest_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the guest cannot be built, the run is skipped with the reason, and ends with 0."""
    monkeypatch.setattr("sys.argv", ["run"])
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run.main() == 0
    assert capsys.readouterr().out.startswith("SKIPPED: ")
