"""Errors of a migration: each says what, where, expected, found, and the cure.

There are two families. A :class:`MilvusdmError` is final: no retry can help, so the task fails at once. After a
:class:`TransientError` a retry may succeed, so Airflow retries the task. Errors of other libraries (a server that is
away, a network connection that is cut) propagate as they are, and are retried too.
"""

from __future__ import annotations

CURE = "What to do: "
"""Stands before the cure in the text of an error, so that the two can be shown apart."""


class _ExplainedError(Exception):
    """An error whose text is one message fit for a task log."""

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
        super().__init__(" ".join([*sentences, f"{CURE}{cure}" if cure else ""]).strip())


def split_cure(line: str) -> tuple[str, str]:
    """A line of the text of an error without its cure, and the cure; empty if it has none."""
    fault, has_cure, cure = line.rpartition(CURE)
    return (fault.rstrip(), cure) if has_cure else (line, "")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


class MilvusdmError(_ExplainedError):
    """Base of the final errors."""


class ConfigurationError(MilvusdmError, ValueError):
    """Params, a YAML file or a connection that can't be what the user meant."""


class SourceError(MilvusdmError):
    """A fault of the source. Except for ChangedSourceError, the target has not been touched."""


class SourceNotFoundError(SourceError, LookupError):
    """A path, collection, partition or segment folder that does not exist."""


class DamagedSourceError(SourceError, ValueError):
    """A file or a catalog that is broken, or contradicts another."""


class ChangedSourceError(SourceError):
    """A source that changed after an earlier step read it."""


class UnsupportedSourceError(SourceError):
    """A source that is valid, but that this package can't read."""


class RefusedRowsError(SourceError, ValueError):
    """Rows that Milvus 1.x accepted and Milvus 2.x can't hold: duplicate ids, NaN, infinity."""


class TargetError(MilvusdmError):
    """The target is not what this migration needs, and can't be made so; nothing was written."""


class ChangedTargetError(TargetError):
    """Another run or program has changed the collection while this run was preparing it."""


class VerificationError(MilvusdmError):
    """The target does not hold what was read from the source."""


class TransientError(_ExplainedError, RuntimeError):
    """Base of the errors after which a retry may succeed."""


class UnreachableError(TransientError):
    """The target is away, or its address is wrong; a retry tries to reach it again."""


class UnknownHostError(UnreachableError):
    """The host of the target does not exist. A retry of the first task does not help; a later task has reached it."""


class StalledError(TransientError):
    """The target makes no progress with what was asked of it; a retry waits again."""


class NoAnswerError(TransientError):
    """The target took a request and never answered; a retry continues where this attempt ended."""


class LateError(TransientError):
    """A request was not sent because its deadline was over: this process was suspended."""


class DeniedError(TransientError):
    """The target accepts no writes now; a retry continues once it does."""


class FolderNotSharedError(TransientError):
    """A worker does not see the folder of the run; a retry may come to one that does."""


class ImportFailedError(TransientError):
    """The files of a bulk import could not be written, or the server gave up an import job."""
