"""Texts of faults: the first few examples stand for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.exceptions import SourceError

EXAMPLES = 20


def list_ids(ids: npt.NDArray[np.int64], count: int) -> str:
    """The first of ``ids``, int64 of any shape (n,), and how many more there are; ``count``: how many in all."""
    more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
    return ", ".join(map(str, ids[:EXAMPLES].tolist())) + more


def join_faults(collection: str, faults: Sequence[SourceError]) -> SourceError:
    """One error for all faults of a collection."""
    if len(faults) == 1:
        return faults[0]
    lines = [f"- {fault}" for fault in faults[:EXAMPLES]]
    if len(faults) > EXAMPLES:
        lines.append(f"- and {len(faults) - EXAMPLES} more")
    return SourceError(f"{len(faults)} faults in collection {collection!r}:\n" + "\n".join(lines))
