"""Ids that the target holds already: a second row with the same id would never be returned, and is deleted with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.rows import VectorBatch, rows_within
from airflow_provider_milvusdm.rows.reader import read_keys, read_slices
from airflow_provider_milvusdm.targets.milvus.compare import Ids
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.server.capabilities import stores_rows_with_one_id
from airflow_provider_milvusdm.targets.milvus.server.queries import (
    IDS_A_QUERY,
    filter_ids,
    ids_in_any,
    ids_outside,
    stream_ids,
)
from airflow_provider_milvusdm.targets.milvus.server.row_queries import RowQueries

CURE_IDS = "Use mode overwrite, or rename to load into a collection of its own."
CURE_ROW_NUMBERS = "These ids are row numbers: set id_offset to more than the highest id in the target."


def refuse_taken_ids(case: Case, partitions: Collection[str], replaced: Collection[str] = ()) -> None:
    """Raises TargetError where ids of rows that go to ``partitions`` exist in the target.

    An id exists where its own partition holds it or, with a partition key, where it is under any key that is not
    ``replaced``. The collection must be loaded.
    """
    for partition, ids in _source_ids(case, set(partitions)):
        found = ids_in_any(case.client, case.target, () if case.keyed else [partition], ids).tolist()
        if found and replaced:
            found = ids_outside(case.client, case.target, replaced, found)
        if found:
            raise _taken(case, partition, len(ids), found)


def refuse_rows_under_other_keys(case: Case, partitions: Collection[str]) -> None:
    """Raises TargetError where ``partitions`` hold rows to append under other keys (``duplicate_ids: remap``).

    Keys are made of positions, which change if a partition of the source is dropped, or segments are merged. The
    collection must be loaded.
    """
    queries = RowQueries(case.client, case.target)
    for unit in case.plan.units if case.target.own_keys else ():
        rows = min(rows_within(unit.collection), IDS_A_QUERY)
        for _, tag, batch in read_slices(unit.source, unit.collection, unit.slices, rows):
            name = case.plan.partition_names[tag]
            wanted = _contents(batch) if name in partitions else set()
            matching = filter_ids(SOURCE_ID, {source_id for source_id, _ in wanted})
            for keys in stream_ids(case.client, case.target, name, matching=matching) if wanted else ():
                for part in np.array_split(keys, len(keys) // rows + 1):
                    if found := wanted & _contents(queries.read_ids(name, part)):
                        raise _held(case, name, sorted(source_id for source_id, _ in found))


def _contents(batch: VectorBatch) -> set[tuple[int, bytes]]:
    """``source_id`` and vector of each row of a batch; none of an empty one."""
    ids = np.asarray(batch.columns[SOURCE_ID]).tolist() if len(batch) else []
    return {(source_id, vector.tobytes()) for source_id, vector in zip(ids, batch.vectors, strict=True)}


def _held(case: Case, partition: str, source_ids: Sequence[int]) -> TargetError:
    return TargetError(
        f"rows to append are in the target already, under other keys: {len(source_ids)} or more",
        where=f"collection {case.target.name!r}, partition {partition!r}",
        expected=f"no row with the same {SOURCE_ID} and vector: it would be stored twice",
        found=f"{SOURCE_ID} {', '.join(map(str, source_ids[:20]))}",
        cure="Keys are made from positions (duplicate_ids: remap), and these have changed in the source since. "
        f"{CURE_IDS}",
    )


def refuse_emptying_elsewhere(case: Case) -> None:
    """Raises TargetError where rows under the partition keys to empty share their id with rows under other keys.

    A server deletes the rows of a partition key by their ids, under all keys. The collection must be loaded.
    """
    for tag in case.wanted if stores_rows_with_one_id(case.client) else ():
        for ids in stream_ids(case.client, case.target, tag):
            if lost := ids_outside(case.client, case.target, case.wanted, ids.tolist()):
                raise TargetError(
                    f"{len(lost)} rows to delete have ids that other partition keys have, too",
                    where=f"collection {case.target.name!r}, partition {tag!r}",
                    expected="ids that are under one key only: a server deletes an id under all keys",
                    found=f"ids {', '.join(map(str, sorted(lost)[:20]))}",
                    cure="Overwrite the whole collection, or delete these rows from the target.",
                )


def _source_ids(case: Case, partitions: Collection[str]) -> Iterator[tuple[str, Ids]]:
    """Partition and live ids of the rows that go to ``partitions``, in batches; none where the target makes ids."""
    for unit in () if case.target.ids_by_target else case.plan.units:
        for row_slice in unit.slices:
            name = case.plan.partition_names[row_slice.partition]
            if name in partitions:
                for _, keys in read_keys(unit.source, unit.collection, row_slice):
                    yield name, keys


def _taken(case: Case, partition: str, checked: int, found: Sequence[int]) -> TargetError:
    numbered = case.plan.source and case.plan.source.options.get("ids") == "row_number"
    return TargetError(
        f"ids to append are in the target already: {len(found)} of {checked} checked",
        where=f"collection {case.target.name!r}, partition {partition!r}",
        expected="none of them: a second row with the same id would be stored and never returned",
        found=f"ids {', '.join(map(str, sorted(found)[:20]))}",
        cure=CURE_ROW_NUMBERS if numbered else CURE_IDS,
    )
