"""Where commands print: as wide as the terminal, and where there is none as wide as the text."""

from __future__ import annotations

from rich.console import Console

WIDE = 100_000  # columns: a table in a file or a pipe is not cut


def console(least: int = 0) -> Console:
    """The standard output.

    Args:
        least: columns of a table that would be hard to read in fewer.
    """
    found = Console()
    return Console(width=max(least, found.width if found.is_terminal else WIDE))
