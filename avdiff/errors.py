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
