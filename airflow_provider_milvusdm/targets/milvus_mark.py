"""The mark that a collection carries while it's loaded, and afterwards: a collection property.

A half-loaded collection is never taken for a finished one: whoever finds the mark knows who is loading it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import TargetError

if TYPE_CHECKING:
    from pymilvus import MilvusClient

PROPERTY = "milvusdm.migration"
LOADING, COMPLETE = "loading", "complete"


@dataclass(frozen=True)
class Mark:
    """``source``: fingerprint of the source; ``before``: rows in each partition to load before the first of ours.

    ``seen``: what of the source the target holds bit for bit once the load is complete, see
    :mod:`airflow_provider_milvusdm.targets.milvus_seen`.
    """

    state: str
    incarnation: str
    source: str
    before: Mapping[str, int] = field(default_factory=dict)
    seen: str = ""

    @property
    def is_loading(self) -> bool:
        return self.state == LOADING

    def properties(self) -> dict[str, str]:
        return {PROPERTY: json.dumps(asdict(self), separators=(",", ":"))}

    def completed(self) -> Mark:
        return replace(self, state=COMPLETE)


def new_mark(source: str, before: Mapping[str, int], seen: str = "") -> Mark:
    """A mark with an incarnation of its own: checkpoints written for another one are worth nothing."""
    return Mark(LOADING, secrets.token_hex(8), source, before, seen)


def read_mark(properties: Mapping[str, str]) -> Mark | None:
    """The mark among the properties of a described collection."""
    text = properties.get(PROPERTY)
    return Mark(**json.loads(text)) if text else None


def set_mark(client: MilvusClient, collection: str, mark: Mark) -> None:
    client.alter_collection_properties(collection, mark.properties())


def refuse_other_mark(client: MilvusClient, collection: str, incarnation: str) -> None:
    """Refuse to go on with a collection that another run has marked since; empty: one that carried no mark."""
    mark = read_mark(client.describe_collection(collection).get("properties", {}))
    found = mark.incarnation if mark else ""
    if found != incarnation:
        raise TargetError(
            f"another run has begun to write into collection {collection!r} of the target",
            expected=f"a mark with incarnation {incarnation}" if incarnation else "no mark",
            found=f"one with incarnation {found}" if found else "none",
            cure="Wait for it to end, and start a new run.",
        )
