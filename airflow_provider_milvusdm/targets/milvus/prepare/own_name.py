"""The name of its own that a collection has until it is verified, and that the one it takes the place of gets then.

``news__milvusdm_0a1b2c3d4e5f6071`` and ``news__milvusdm_0a1b2c3d4e5f6071_old``: what is to be written under a name
that is gone is refused by the target, whoever wrote it and however late it comes.
"""

from __future__ import annotations

import re

from airflow_provider_milvusdm.targets.aliases import FINGERPRINT_LENGTH
from airflow_provider_milvusdm.targets.names import NAME_LENGTH

OWN_NAME = re.compile(r"(.*)__milvusdm_[0-9a-f]{16}(_old)?")
LONGEST_END = len("__milvusdm_0123456789abcdef_old")


def own_name(target: str, generation: str) -> str:
    """The name until it is verified; ``target`` is the one that it gets then."""
    return f"{_beginning(target)}__milvusdm_{generation}"


def former_name(target: str, generation: str) -> str:
    """The name of the collection that it takes the place of, until that is dropped."""
    return f"{own_name(target, generation)}_old"


def may_belong(name: str, target: str, *, aliased: bool) -> bool:
    """Whether a collection may be one of these for ``target``; its marker tells for certain.

    ``aliased``: the end of ``target`` is a fingerprint, and any other will do.
    """
    found, beginning = OWN_NAME.fullmatch(name), _beginning(target)
    if found is None:
        return False
    return is_alike(found[1], beginning) if aliased else found[1] == beginning


def is_alike(target: str, other: str) -> bool:
    """Whether names of collections that an alias stands for are the same but for the fingerprint."""
    return len(target) == len(other) and target[:-FINGERPRINT_LENGTH] == other[:-FINGERPRINT_LENGTH]


def _beginning(target: str) -> str:
    return target[: NAME_LENGTH - LONGEST_END]
