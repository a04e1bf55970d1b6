"""Names of their own: of a collection until it is verified, and of the collection that it then replaces.

``news__milvusdm_0a1b2c3d4e5f6071`` and ``news__milvusdm_0a1b2c3d4e5f6071_old``. Once the name is gone, the target
refuses everything that is written under it, no matter by whom and when.
"""

from __future__ import annotations

import re

from airflow_provider_milvusdm.targets.aliases import FINGERPRINT_LENGTH
from airflow_provider_milvusdm.targets.names import NAME_LENGTH

OWN_NAME = re.compile(r"(.*)__milvusdm_[0-9a-f]{16}(_old)?")
LONGEST_END = len("__milvusdm_0123456789abcdef_old")


def own_name(target: str, generation: str) -> str:
    """The name of a collection until it is verified; ``target``: the name that it gets then."""
    return f"{_beginning(target)}__milvusdm_{generation}"


def former_name(target: str, generation: str) -> str:
    """The name of the collection that it replaces, until that is dropped."""
    return f"{own_name(target, generation)}_old"


def may_belong(name: str, target: str, *, aliased: bool) -> bool:
    """Whether ``name`` may be a name of this kind for ``target``; the collection's marker is certain.

    ``aliased``: the end of ``target`` is a fingerprint, and may differ.
    """
    found, beginning = OWN_NAME.fullmatch(name), _beginning(target)
    if found is None:
        return False
    return is_alike(found[1], beginning) if aliased else found[1] == beginning


def is_alike(target: str, other: str) -> bool:
    """Whether two names of collections with an alias differ at most in the fingerprint."""
    return len(target) == len(other) and target[:-FINGERPRINT_LENGTH] == other[:-FINGERPRINT_LENGTH]


def _beginning(target: str) -> str:
    return target[: NAME_LENGTH - LONGEST_END]
