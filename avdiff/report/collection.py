"""Tables of several runs as one Markdown file, each below a heading, with what they are in front."""

from __future__ import annotations

from collections.abc import Sequence

INTRODUCTION = (
    "Made by `avdiff report` from what the commands below left; no figure is typed by hand. The paper's figures, where there are "
    "any, are labelled as the paper's and are of its own data."
)


def collect(parts: Sequence[str]) -> str:
    """One text of several, each of which begins with its title as `# title`; headings move down a level."""
    titles = [part.splitlines()[0].removeprefix("# ") for part in parts]
    contents = [f"- [{title}](#{_anchor(title)})" for title in titles]
    moved = ["\n".join(f"#{line}" if line.startswith("#") else line for line in part.splitlines()) for part in parts]
    return "\n\n".join(["# Results", INTRODUCTION, "\n".join(contents), *moved]) + "\n"


def _anchor(title: str) -> str:
    """What GitHub makes of a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
