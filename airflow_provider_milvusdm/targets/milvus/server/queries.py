"""Rows of a Milvus 2.x collection: how many, which ids are there, what vectors they have."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from airflow_provider_milvusdm.targets.milvus.server.capabilities import (
    counts_partitions_by_query,
    keeps_unflushed_rows_by_partition,
    orders_limited_queries,
    serves_requests_concurrently,
)
from airflow_provider_milvusdm.targets.milvus.server.sending import sent_before

if TYPE_CHECKING:
    from pymilvus import MilvusClient

    from airflow_provider_milvusdm.model.collections import TargetCollection
    from airflow_provider_milvusdm.model.rows import VectorBatch


Row: TypeAlias = tuple[Any, ...]
"""The bytes of a vector, and the requested scalar fields."""


LOWEST_ID, HIGHEST_ID = -(2**63), 2**63 - 1
IDS_A_QUERY = 16384
LITE_IDS_A_QUERY = 1 << 17
"""Each query of Milvus Lite goes through all rows."""
VECTORS_A_QUERY = 256
"""A server sends at most 64 MiB: this many vectors of 32,768 dimensions, its limit, are 32 MiB."""
READS_AT_ONCE = 16
READS_AHEAD = 3
"""Reads of vectors at once."""
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r"})
"""Characters that must be escaped in a text literal of a filter, on servers and in Milvus Lite."""


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrently(client: MilvusClient, read: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of ``read`` for each item, in order. A server delays a strong read by 0.2 s, but serves many at once."""
    if not serves_requests_concurrently(client):
        return list(map(read, items))
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        return list(threads.map(read, items))


def map_ahead(client: MilvusClient, read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The same, one result after another, while the next few items are read."""
    if not serves_requests_concurrently(client):
        yield from map(read, items)
        return
    with ThreadPoolExecutor(READS_AHEAD) as threads:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(threads.submit(read, item))
            if len(pending) == READS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def count_rows(client: MilvusClient, target: TargetCollection, partition: str) -> int:
    """Exact number of rows of a partition; the collection must be loaded.

    ``count(*)`` of Milvus Lite ignores partitions. Its statistics are exact, a server's are not.
    """
    if not target.partition_field and not counts_partitions_by_query(client):
        return int(client.get_partition_stats(target.name, partition)["row_count"])
    return _count(client, target, **within(target, partition))


def count_all(client: MilvusClient, target: TargetCollection) -> int:
    """Number of rows of a loaded collection, under all partition keys."""
    return _count(client, target, filter="")


def _count(client: MilvusClient, target: TargetCollection, **matching: Any) -> int:
    result = client.query(target.name, **matching, output_fields=["count(*)"], consistency_level="Strong")
    return int(result[0]["count(*)"])


def count_between(client: MilvusClient, target: TargetCollection, partition: str, first: int, last: int) -> int:
    """Number of rows of a partition with the ids ``first`` to ``last``; a server counts each row of an id."""
    matching = within(target, partition, filter_range(target.id_field, first, last))
    result = client.query(target.name, **matching, output_fields=["count(*)"], consistency_level="Strong")
    return int(result[0]["count(*)"])


def within(target: TargetCollection, partition: str, matching: str = "") -> dict[str, Any]:
    """Arguments of a query for the rows of a partition that match a filter."""
    if not target.partition_field:
        return {"filter": matching, "partition_names": [partition]}
    tagged = filter_tag(target.partition_field, partition)
    return {"filter": f"{tagged} and ({matching})" if matching else tagged}


def filter_tag(field: str, tag: str) -> str:
    """A filter that matches the rows with this tag, whatever characters it has."""
    return f"{field} == {_quote(tag)}"


def _quote(text: str) -> str:
    """A text literal of a filter."""
    return f'"{text.translate(ESCAPES)}"'


def filter_ids(field: str, ids: Iterable[int]) -> str:
    """A filter that matches ``ids``: -2^63 can't be written as a literal for a 2.3 server."""
    literals = [str(row_id) for row_id in ids if row_id != LOWEST_ID]
    found = f"{field} in [{', '.join(literals)}]"
    return f"{found} or {field} < {LOWEST_ID + 1}" if LOWEST_ID in ids else found


def filter_range(field: str, first: int, last: int) -> str:
    """A filter that matches the ids ``first`` to ``last``; see :func:`filter_ids` for the lowest."""
    if first != LOWEST_ID:
        return f"{field} >= {first} and {field} <= {last}"
    return f"{field} < {last + 1}" if last < HIGHEST_ID else f"{field} <= {HIGHEST_ID}"


def existing_ids(client: MilvusClient, target: TargetCollection, partition: str, ids: Sequence[int]) -> list[int]:
    """Those of ``ids`` that the partition holds."""
    return _find_ids(client, target, partial(within, target, partition), ids)


def ids_in_any(
    client: MilvusClient, target: TargetCollection, partitions: Sequence[str], ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Those of ``ids`` that these partitions (none: the collection) hold, sorted.

    If they hold no id between the lowest and the highest of ``ids``, this takes one query.
    """

    def within_these(matching: str) -> dict[str, Any]:
        return {"filter": matching, "partition_names": list(partitions)}

    if not len(ids):
        return ids
    span = within_these(filter_range(target.id_field, int(ids.min()), int(ids.max())))
    if not client.query(target.name, **span, output_fields=[target.id_field], consistency_level="Strong", limit=1):
        return np.empty(0, np.int64)
    return np.unique(np.array(_find_ids(client, target, within_these, ids.tolist()), np.int64))


def ids_outside(
    client: MilvusClient, target: TargetCollection, partitions: Collection[str], ids: Sequence[int]
) -> list[int]:
    """Those of ``ids`` that the collection holds under other partition keys than these.

    The filter excludes these keys: of an id that is under several keys, a server returns one row.
    """
    outside = f"{target.partition_field} not in [{', '.join(map(_quote, partitions))}]"
    return _find_ids(client, target, lambda matching: {"filter": f"{outside} and ({matching})"}, ids)


def _find_ids(
    client: MilvusClient, target: TargetCollection, where: Callable[[str], Mapping[str, Any]], ids: Sequence[int]
) -> list[int]:
    """Those of ``ids`` that are found; ``where`` as of :func:`_rows_with`."""

    def ask(chunk: Sequence[int]) -> list[int]:
        return [row[target.id_field] for row in _rows_with(client, target, where, chunk, IDS_A_QUERY)]

    return [row_id for found in map_concurrently(client, ask, _chunks(ids, IDS_A_QUERY)) for row_id in found]


def _rows_with(
    client: MilvusClient,
    target: TargetCollection,
    where: Callable[[str], Mapping[str, Any]],
    ids: Sequence[int],
    most: int,
    fields: Sequence[str] = (),
    **options: Any,
) -> Iterator[Mapping[str, Any]]:
    """A row of each of the ids that is found; a query asks for ``most`` ids.

    ``where``: makes arguments of a query of a filter that matches ids.

    If ids are on several rows, a 2.3 server omits as many other rows, so ids that weren't found are asked for again.
    """
    for chunk in _chunks(ids, most):
        left, found = chunk, set[int]()
        while left and (found or left is chunk):
            rows = client.query(
                target.name,
                **where(filter_ids(target.id_field, left)),
                output_fields=[target.id_field, *fields],
                consistency_level="Strong",
                **options,
            )
            yield from rows
            found = {row[target.id_field] for row in rows}
            left = [row_id for row_id in left if row_id not in found]


def stream_ids(
    client: MilvusClient,
    target: TargetCollection,
    partition: str,
    first: int = LOWEST_ID,
    last: int = HIGHEST_ID,
    matching: str = "",
) -> Iterator[npt.NDArray[np.int64]]:
    """The ids from ``first`` to ``last`` of a partition, sorted, in batches; of rows that match a filter, if given.

    A server returns the lowest keys for a limited query, Milvus Lite only for that of an iterator. Of several rows with
    an id, a server returns one but counts all for the limit: only an empty reply is the end.
    """
    ordered = orders_limited_queries(client)
    most, options = (IDS_A_QUERY, {}) if ordered else (LITE_IDS_A_QUERY, {"iterator": "True"})
    while first <= last:
        whole = (first, last) == (LOWEST_ID, HIGHEST_ID)
        filters = [matching, "" if whole else filter_range(target.id_field, first, last)]
        rows = client.query(
            target.name,
            **within(target, partition, " and ".join(f"({text})" for text in filters if text)),
            output_fields=[target.id_field],
            consistency_level="Strong",
            limit=most,
            **options,
        )
        yield np.array([row[target.id_field] for row in rows], np.int64)
        if not rows:
            return
        first = rows[-1][target.id_field] + 1


def read_rows(
    client: MilvusClient,
    target: TargetCollection,
    partition: str,
    ids: Sequence[int],
    columns: Iterable[str] = (),
    most: int = VECTORS_A_QUERY,
) -> dict[int, Row]:
    """The rows of the partition with these ids; a query asks for ``most`` ids."""
    columns = list(columns)
    fields = [target.vector_field, *columns]
    where = partial(within, target, partition)
    rows = _rows_with(client, target, where, ids, most, fields, strict_float32=True)  # NumPy's: no object a number
    return {
        row[target.id_field]: (vector_bytes(row[target.vector_field]), *(row[name] for name in columns)) for row in rows
    }


def rows_of(batch: VectorBatch) -> dict[int, Row]:
    """The rows of a batch by id, as :func:`read_rows` returns them."""
    columns = [
        [values] * len(batch) if isinstance(values, str) else values.tolist() for values in batch.columns.values()
    ]
    vectors = (vector.tobytes() for vector in batch.vectors)
    return dict(zip(batch.ids.tolist(), zip(vectors, *columns, strict=True), strict=True))


def delete_ids(
    client: MilvusClient, target: TargetCollection, partition: str, ids: Sequence[int], fence: Callable[[], float]
) -> None:
    """Delete rows by id, whether they exist or not. Milvus Lite deletes them from all other partitions, too.

    ``fence`` returns the deadline of each request.
    """
    for chunk in _chunks(ids, IDS_A_QUERY):
        _delete(client, target, partition, filter_ids(target.id_field, chunk), fence())
    if len(ids) and not keeps_unflushed_rows_by_partition(client):
        client.flush(target.name)


def delete_all(client: MilvusClient, target: TargetCollection, partition: str, fence: Callable[[], float]) -> None:
    """Delete all rows of a partition, or under a partition key.

    Each request deletes some thousand rows, because it must end before the deadline that ``fence`` returns.
    """
    first = LOWEST_ID
    for ids in stream_ids(client, target, partition):
        last = int(ids[-1]) if len(ids) else HIGHEST_ID
        matching = within(target, partition, filter_range(target.id_field, first, last))["filter"]
        _delete(client, target, partition, matching, fence())
        first = last + 1


def _delete(client: MilvusClient, target: TargetCollection, partition: str, matching: str, deadline: float) -> None:
    name = None if target.partition_field else partition
    with sent_before(client, deadline) as timeout:
        client.delete(target.name, filter=matching, partition_name=name, timeout=timeout)


def vector_bytes(value: object) -> bytes:
    """A vector as a query returns it (floats, or a list of one bytes object for a binary one) as bytes."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], bytes):
        value = value[0]
    return value if isinstance(value, bytes) else np.asarray(value, dtype="<f4").tobytes()


def _chunks(ids: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), most):
        yield ids[start : start + most]
