"""Mistakes that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """One clear sentence: what was given, what was expected, what to change. The CLI shows it without a traceback."""


def printable(text: str) -> str:
    """Text for one line of a terminal: what a name of a file may hold and a terminal obeys, such as ESC, is shown escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def printable_lines(text: str) -> str:
    """`printable` of every line of a text."""
    return "\n".join(map(printable, text.split("\n")))


def at_least(least: float, **settings: float | None) -> None:
    """Refuse numbers that are too small, or none; None is a setting that was left out.

    Raises:
        UserError: the first of them.
    """
    for name, value in settings.items():
        if value is not None and not value >= least:
            raise UserError(f"{name} is {value}; give at least {least:g}")


def positive(**settings: float) -> None:
    """Refuse numbers that are not above zero.

    Raises:
        UserError: the first of them.
    """
    for name, value in settings.items():
        if not value > 0:
            raise UserError(f"{name} is {value}; give a number above 0")


def share(**settings: float) -> None:
    """Refuse numbers that are no share of a whole.

    Raises:
        UserError: the first of them.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}; give a number from 0 to 1")


def ordered(**settings: tuple[float, float]) -> None:
    """Refuse ranges whose ends are the wrong way round.

    Raises:
        UserError: the first of them.
    """
    for name, (low, high) in settings.items():
        if not low <= high:
            raise UserError(f"{name} is from {low} to {high}; give the lower end first")
