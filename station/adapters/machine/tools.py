"""What the machine's own tools say (journalctl, udevadm, dmesg): their standard output, capped in time.

Only tools that look are run, without a shell; one that is missing or fails raises OSError in words.
"""

from __future__ import annotations

import subprocess

PATIENCE_S = 30.0


def output_of(*command: str) -> str:
    """Return what a command says; raises OSError when it is not there, fails, or takes longer than `PATIENCE_S`."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed words, no shell
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, check=False
        )
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} did not answer within {PATIENCE_S:g} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise ChildProcessError(f"{command[0]} ended with {done.returncode}: {said[-1] if said else 'it says nothing'}")
    return done.stdout.decode(errors="backslashreplace")
