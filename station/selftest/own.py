"""The checks of the recipe's own: a file with a function `check()`, run on the board, and what it returns. Pure.

The source goes to the board as it is, inside the frame that carries the run's nonce, and so is hostile like everything a
board says: at most 4 KiB of answer, at most so many values, every name under the check's own, so that none can pass for
one of the station's measurements.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from station.model import Measurement
from station.recipe import OwnCheckCode, Recipe
from station.selftest.measuring import JSON, Check, Text, Value, between, exactly, recorded

MOST_VALUES = 32
_LARGEST_WHOLE = 1 << 53

Name = Annotated[str, msgspec.Meta(pattern="^(?!done$)[a-z][a-z0-9_]{0,39}$")]
"""Not `done`: the station says that itself, and a limit of that name would hold without a value."""
Whole = Annotated[int, msgspec.Meta(ge=-_LARGEST_WHOLE, le=_LARGEST_WHOLE)]
Returned = Annotated[dict[Name, Whole | float | bool | Text | None], msgspec.Meta(max_length=MOST_VALUES)]

_CALL = (
    "\n_r=check()\n"
    # In JSON b'x' and 'x' are one name, and the last of them would hide the other.
    "if not isinstance(_r,dict) or not all([isinstance(_k,str) for _k in _r]):\n"
    " raise TypeError('check() must return a dict of names and values')\n"
    f"{JSON}print()\nprint(json.dumps(_r))\n"
)
_LINE = re.compile(r'File "<stdin>", line (\d+)')


def own_checks(recipe: Recipe) -> tuple[Check, ...]:
    """Return the recipe's own checks, in its order."""
    return tuple(own_check(own) for own in recipe.own_checks)


def own_check(own: OwnCheckCode) -> Check:
    """Return one of them, ready to be run."""
    return Check(
        name=own.name,
        code=own.source + _CALL,
        answer=Returned,
        measure=lambda returned: (
            recorded(f"{own.name}.done", value=True),
            *(_measured(own, name, value) for name, value in returned.items()),
        ),
        timeout_s=own.timeout_s,
        own=True,
    )


def own_names(recipe: Recipe) -> tuple[str, ...]:
    """Return the measurements without which there is no PASS: that each ran to its end, and every name with a limit."""
    return tuple(f"{own.name}.{name}" for own in recipe.own_checks for name in ("done", *own.limits))


def with_own_lines(check: Check, traceback: str) -> str:
    """Return a traceback of an own check with the name and the line numbers of its file, not those of what was sent."""
    # The frame's opening mark is the first line of what is sent.
    return _LINE.sub(lambda found: f'File "{check.name}", line {int(found[1]) - 1}', traceback)


def _measured(own: OwnCheckCode, name: str, value: Value) -> Measurement:
    full, unit, limit = f"{own.name}.{name}", own.units.get(name, ""), own.limits.get(name)
    match limit:
        case None:
            return recorded(full, value, unit=unit)
        case tuple():
            return between(full, value, limit, unit=unit)
        case bool() | str():
            return exactly(full, value, limit, unit=unit)
        case _:
            return between(full, value, (limit, limit), unit=unit)
