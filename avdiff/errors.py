"""Mistakes that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """One clear sentence: what was given, what was expected, what to change. The CLI shows it without a traceback."""
