"""What came of the cases: heard from the guest one by one, then one table, a text file and a JSON file.

Each case of the list is in the report, whatever happened. One of which the guest said nothing is not passed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.guest.cases import CASES

PASSED, FAILED, SILENT = "passed", "FAILED", "NOT REPORTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the table; `said` is what the guest measured, or why the case failed."""

    case: str
    result: str
    seconds: float
    said: str = ""


class Report:
    """Collects what the guest says and judges the whole run."""

    def __init__(self) -> None:
        self._heard: dict[str, Result] = {}
        self.troubles: list[str] = []
        """What went wrong besides the cases; with any of them the run is not passed."""
        self.times: dict[str, float] = {}
        """What took how long besides the cases, in seconds."""

    def hear(self, said: Mapping[str, Any]) -> str:
        """Take in one thing that the guest said and return it as one line for a person; empty when there is none."""
        match said:
            case {"case": str(name), "passed": bool(passed), "seconds": float() | int() as seconds, "said": str(words)}:
                if name not in CASES or name in self._heard:
                    self.troubles.append(
                        f"the guest reported {name!r}, which is not on the list or was reported already"
                    )
                result = Result(case=name, result=PASSED if passed else FAILED, seconds=seconds, said=words)
                self._heard[name] = result
                return _line(result)
            case {"trouble": str(words)}:
                self.troubles.append(words)
                return f"trouble: {words}"
            case {"note": str(words)}:
                return f"    {words}"
        return ""

    def results(self) -> list[Result]:
        """Every case of the list, in its order."""
        return [self._heard.get(name) or Result(case=name, result=SILENT, seconds=0.0) for name in CASES]

    @property
    def passed(self) -> bool:
        """Whether every case reported and passed, and nothing else went wrong."""
        return not self.troubles and all(result.result == PASSED for result in self.results())

    def text(self) -> str:
        """The table, for people."""
        lines = [f"{'case':<28} {'result':<13} {'seconds':>8}  what was seen", "-" * 110]
        lines += [_line(result) for result in self.results()]
        lines += ["", *(f"{what:<42} {seconds:>8.1f}" for what, seconds in self.times.items())]
        lines += [f"TROUBLE: {trouble}" for trouble in self.troubles]
        good = sum(result.result == PASSED for result in self.results())
        lines += ["", f"{good} of {len(CASES)} cases passed: {'PASSED' if self.passed else 'FAILED'}"]
        return "\n".join(lines) + "\n"

    def write(self, directory: Path) -> None:
        """Write `report.txt` and `report.json`."""
        (directory / "report.txt").write_text(self.text(), encoding="utf-8")
        whole = {
            "passed": self.passed,
            "cases": [asdict(result) for result in self.results()],
            "troubles": self.troubles,
            "times_s": self.times,
        }
        (directory / "report.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


def _line(result: Result) -> str:
    first, *more = result.said.splitlines() or [""]
    indented = "".join(f"\n{'':<53}{line}" for line in more)
    return f"{result.case:<28} {result.result:<13} {result.seconds:>8.1f}  {first}{indented}"
