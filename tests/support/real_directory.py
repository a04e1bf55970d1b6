"""What has to arrive of the directory that a real 1.x server left."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.collections_2x import stored
from tests.support.targets import milvus_client

SOURCE = "milvus"
"""The data directory below `real_data`."""


def expected_collections(real_data: Path) -> dict[str, dict[str, Any]]:
    expected: dict[str, dict[str, Any]] = json.loads((real_data / "expected.json").read_text())
    return expected


def found_collections(uri: str, source: Path) -> dict[str, dict[str, Any]]:
    """The target's collections, described as `expected.json` describes them: rows in the order of the source."""
    with milvus_client(uri) as client:
        found = {}
        for name in client.list_collections():
            client.load_collection(name)
            fields = {field["name"]: field for field in client.describe_collection(name)["fields"]}
            [index] = client.list_indexes(name)
            described = client.describe_index(name, index)
            found[name] = {
                "dimension": fields["embedding"]["params"]["dim"],
                "metric_type": described["metric_type"],
                "index": described["index_type"],
            } | _digests(stored(client, name)["_default"], _stored_ids(source / "db" / "tables" / name))
        return found


def _stored_ids(collection: Path) -> list[int]:
    """Ids of a collection of one segment, none where it has no folder."""
    return [one for path in collection.glob("*/*.uid") for (one,) in struct.iter_unpack("<q", path.read_bytes()[8:])]


def _digests(rows: Mapping[int, bytes], order: Sequence[int]) -> dict[str, Any]:
    if not rows:
        return {"rows": 0}
    assert sorted(rows) == sorted(order)
    return {
        "rows": len(rows),
        "ids_sha256": hashlib.sha256(struct.pack(f"<{len(order)}q", *order)).hexdigest(),
        "vectors_sha256": hashlib.sha256(b"".join(rows[one] for one in order)).hexdigest(),
    }
