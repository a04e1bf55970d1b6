"""Read exported HDF5 files back and compare every byte with what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_provider_milvusdm.manifests import CollectionPlan, Exported
from airflow_provider_milvusdm.model.rows import VectorBatch, ranges
from airflow_provider_milvusdm.report import FAILED, PLANNED, VERIFIED, CollectionReport, PartitionReport
from airflow_provider_milvusdm.targets.hdf5.export import ID_BYTES, RowsDigest, file_name

BATCH_BYTES = 8 << 20


def planned_export(plan: CollectionPlan) -> CollectionReport:
    """What a run would write."""
    if plan.collection is None:
        return CollectionReport(plan.name, plan.target.name, faults=(plan.error,))
    data = plan.rows * (plan.collection.vector_bytes + ID_BYTES)
    return CollectionReport(
        plan.name,
        plan.target.name,
        status=PLANNED,
        action="would be exported",
        metric=plan.collection.metric,
        target_metric=plan.collection.metric,
        index=plan.collection.index_type,
        target_index="none",
        partitions=tuple(
            PartitionReport(
                part.tag, file_name(plan.partition_names[part.tag]), part.live_rows, part.deleted_rows, part.excluded
            )
            for part in plan.partitions
        ),
        notes=(*plan.notes, f"{plan.rows} rows, {data / (1 << 20):.1f} MiB of ids and vectors"),
    )


def verify_export(
    plan: CollectionPlan, exported: Sequence[Exported], faults: Sequence[str] = (), changes: Sequence[str] = ()
) -> CollectionReport:
    """Read a collection's files back and compare them with what was written, every byte; nothing is raised.

    ``changes``: what of the source is not as it was when it was inspected; each is a fault.
    """
    if plan.collection is None:
        return CollectionReport(plan.name, plan.target.name, faults=(plan.error,))
    files = {one.partition: one for one in exported}
    missing = [partition.tag for partition in plan.partitions if partition.tag not in files]
    if missing:
        found = (f"partitions {', '.join(missing)} were not exported", *faults, *changes)
        return CollectionReport(plan.name, plan.target.name, action="exported", faults=found)
    counts = {one.partition: _read_back(Path(one.path)) for one in exported}
    wrong = [
        f"{one.path}: expected {one.rows} rows with digest {one.digest}, found {counts[one.partition]}"
        for one in exported
        if counts[one.partition] != (one.rows, one.digest)
    ]
    wrong += [*_left_behind(exported), *changes]
    seconds, rows = sum(one.seconds for one in exported), sum(one.rows for one in exported)
    return CollectionReport(
        plan.name,
        str(Path(exported[0].path).parent),
        status=FAILED if wrong else VERIFIED,
        action="exported",
        metric=plan.collection.metric,
        target_metric=plan.collection.metric,
        index=plan.collection.index_type,
        target_index="none",
        partitions=tuple(
            PartitionReport(
                partition.tag,
                Path(files[partition.tag].path).name,
                live=partition.live_rows,
                deleted=partition.deleted_rows,
                excluded=partition.excluded,
                loaded=files[partition.tag].rows,
                counted=counts[partition.tag][0],
            )
            for partition in plan.partitions
        ),
        sampled=sum(count for count, _ in counts.values()),
        rows_per_second=round(rows / seconds) if rows and seconds else None,
        notes=plan.notes,
        faults=tuple(wrong),
    )


def _left_behind(exported: Sequence[Exported]) -> Iterator[str]:
    """Files that a job over the whole folder would load, too."""
    paths = {Path(one.path) for one in exported}
    for path in sorted({path for folder in {path.parent for path in paths} for path in folder.glob("*.h5")} - paths):
        yield f"{path}: of an earlier try of this run, of a partition that is not exported now: remove it"


def _read_back(path: Path) -> tuple[int, str]:
    """Rows of a file and their digest."""
    import h5py

    digest = RowsDigest()
    with h5py.File(path, "r", locking=False) as file:
        ids, embeddings = file["ids"], file["embeddings"]
        rows = max(BATCH_BYTES // max(embeddings.dtype.itemsize * embeddings.shape[1], 1), 1)
        for start, stop in ranges(0, len(ids), rows):
            digest.update(VectorBatch(ids[start:stop], embeddings[start:stop]))
        return len(ids), str(digest)
