"""Text of a source for a terminal: names and tags can hold anything, also what would control the terminal."""

from __future__ import annotations

from unicodedata import category

from rich.text import Text

LINES = ("\n", "\t")


def to_text(text: str) -> Text:
    """The text without markup, and with control characters as their escapes: ``\\x1b`` for the byte 27."""
    return Text("".join(map(_escape, text)))


def _escape(character: str) -> str:
    is_shown = character in LINES or not category(character).startswith("C")
    return character if is_shown else character.encode("unicode_escape").decode()
