"""Ids that the target holds already: a second row with the same id would never be returned, and is deleted with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.rows.reader import read_keys
from airflow_provider_milvusdm.targets.milvus.compare import Ids
from airflow_provider_milvusdm.targets.milvus.prepare.decide import Case
from airflow_provider_milvusdm.targets.milvus.server.capabilities import stores_rows_with_one_id
from airflow_provider_milvusdm.targets.milvus.server.queries import ids_in_any, ids_outside, stream_ids

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
