"""Collections that keep the ids of the source, and make ids for rows that are inserted without one later.

Milvus 2.6.3 and later accept ids for a collection with auto_id if it has the property ``allow_insert_auto_id``; Milvus
Lite accepts them for any collection.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_milvusdm.model.collections import CollectionSpec

PROPERTY = "allow_insert_auto_id"


def accepts_new_ids(auto_id: bool, properties: Mapping[str, str]) -> bool:
    """Whether an existing collection makes ids, and keeps ids that it is given."""
    return auto_id and properties.get(PROPERTY, "").lower() == "true"


def id_notes(collection: CollectionSpec, generates: bool) -> tuple[str, ...]:
    """Notes of the report for an application that inserted rows without ids."""
    if not collection.generated_ids:
        return ()
    if generates:
        return ("the 1.x server made its ids, and so does the target for rows inserted without one (auto_id)",)
    return (
        "the 1.x server made its ids, and the target makes none in this collection: the application has to insert rows "
        "with an id of their own",
    )
