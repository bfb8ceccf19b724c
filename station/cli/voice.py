"""How the commands talk with a person at a terminal, or with a script that answers on standard input.

Every question shows its default in brackets. The end of the input answers everything that is still asked with the default, so
that no command waits for somebody who is not there.
"""

from __future__ import annotations

import sys

import click


class Terminal:
    """Questions on standard output, answers from standard input."""

    def say(self, text: str = "") -> None:
        """Print it."""
        click.echo(text)

    def ask(self, question: str, default: str) -> str:
        """Return the answer without the blanks around it; the default for an empty one and after the end of the input."""
        shown = f" [{default}]" if default else ""
        return _answer(f"{question}{shown}: ") or default

    def confirm(self, question: str, *, default: bool) -> bool:
        """Return yes or no; anything else is asked again."""
        while True:
            answer = _answer(f"{question} {'[Y/n]' if default else '[y/N]'}: ").lower()
            if answer in ("", "y", "yes", "n", "no"):
                return answer.startswith("y") or (not answer and default)
            click.echo("answer y or n")


def _answer(question: str) -> str:
    click.echo(question, nl=False)
    line = sys.stdin.readline()
    if not line.endswith("\n") or not sys.stdin.isatty():
        click.echo(line.rstrip("\n"))  # what a terminal would have shown
    return line.strip()


def somebody_is_there() -> bool:
    """Whether standard input is a terminal, at which a person may answer."""
    return sys.stdin.isatty()
