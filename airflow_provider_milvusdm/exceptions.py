"""Errors of a migration: each says what, where, expected, found, and the cure.

All of them are final: a retry can mend none. What a retry can mend (a server that is away, a network path that
is cut) is left to propagate as the library that met it raised it.
"""

from __future__ import annotations


class MilvusdmError(Exception):
    """Base of all errors of this package; its text is one message fit for a task log."""

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        cure: str = "",
    ) -> None:
        text = what if where is None else f"{what}: {where}"
        facts = [f"{word} {fact}" for word, fact in (("expected", expected), ("found", found)) if fact is not None]
        sentences = [_sentence(part) for part in (text, ", ".join(facts)) if part]
        super().__init__(" ".join([*sentences, cure]).strip())


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


class ConfigurationError(MilvusdmError, ValueError):
    """Params, a YAML file or a connection that can't be what the user meant."""


class SourceError(MilvusdmError):
    """Something about the source; but for ChangedSourceError, the target has not been touched."""


class SourceNotFoundError(SourceError, LookupError):
    """A path, collection, partition or segment folder that isn't there."""


class DamagedSourceError(SourceError, ValueError):
    """A file or a catalog that is broken, or contradicts another."""


class ChangedSourceError(SourceError):
    """A source that is not what it was when an earlier step read it."""


class UnsupportedSourceError(SourceError):
    """A source in good order that this package doesn't read."""


class RefusedRowsError(SourceError, ValueError):
    """Rows that Milvus 1.x accepted and Milvus 2.x can't hold: duplicate ids, NaN, infinity."""


class TargetError(MilvusdmError):
    """The target is not, or can't be made, what this migration needs; nothing was written for it."""


class VerificationError(MilvusdmError):
    """The target does not hold what was read from the source."""
