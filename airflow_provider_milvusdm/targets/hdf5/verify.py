"""Read exported HDF5 files back, and compare every row with what was resolved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_provider_milvusdm.manifests import CollectionPlan, Exported
from airflow_provider_milvusdm.model.rows import VectorBatch, ranges
from airflow_provider_milvusdm.report import FAILED, PLANNED, VERIFIED, CollectionReport, PartitionReport
from airflow_provider_milvusdm.rows.key_ranges import KeyRanges
from airflow_provider_milvusdm.rows.row_hashes import hash_rows
from airflow_provider_milvusdm.targets.hdf5.export import ID_BYTES, file_name
from airflow_provider_milvusdm.targets.hdf5.run_folder import require_marker

BATCH_BYTES = 8 << 20


def planned_export(plan: CollectionPlan) -> CollectionReport:
    """The report of a dry run: what a run would write."""
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
    """Read a collection's files back and compare every row with what was resolved, by the hashes of its bytes.

    ``faults``: why earlier steps failed. ``changes``: how the source has changed since it was inspected; each is a
    fault. Faults are reported, not raised. Raises FolderNotSharedError where this worker does not see the folder of the
    run.
    """
    if plan.collection is None:
        return CollectionReport(plan.name, plan.target.name, faults=(plan.error,))
    files = {file.partition: file for file in exported}
    missing = [partition.tag for partition in plan.partitions if partition.tag not in files]
    if missing:
        not_exported = f"partitions {', '.join(missing)} were not exported: see the logs of units and export_partitions"
        found = (*faults, *changes, not_exported)
        return CollectionReport(plan.name, plan.target.name, action="exported", faults=found)
    for marker in {file.marker for file in exported}:
        require_marker(Path(marker))
    resolved = {partition.tag: KeyRanges.from_text(partition.key_ranges) for partition in plan.partitions}
    stored = {tag: _read_back(Path(files[tag].path), key_ranges) for tag, key_ranges in resolved.items()}
    counts = {tag: int(key_ranges.rows.sum()) for tag, key_ranges in stored.items()}
    wrong = [
        f"{files[tag].path}: its {counts[tag]} rows are not the {expected.rows.sum()} rows that resolve_ids read"
        for tag, expected in resolved.items()
        if stored[tag].differing(expected).any()
    ]
    wrong += [*_list_other_files(exported), *changes]
    seconds, rows = sum(file.seconds for file in exported), sum(file.rows for file in exported)
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
                counted=counts[partition.tag],
            )
            for partition in plan.partitions
        ),
        sampled=sum(counts.values()),
        rows_per_second=round(rows / seconds) if rows and seconds else None,
        notes=plan.notes,
        faults=tuple(wrong),
    )


def _list_other_files(exported: Sequence[Exported]) -> Iterator[str]:
    """A fault for each other file, which a job that loads the whole folder would load too."""
    paths = {Path(file.path) for file in exported}
    for path in sorted({path for folder in {path.parent for path in paths} for path in folder.glob("*.h5")} - paths):
        yield f"{path}: written by an earlier try of this run for a partition that is not exported now: remove it"


def _read_back(path: Path, resolved: KeyRanges) -> KeyRanges:
    """The rows of a file, in the ranges of those that were resolved."""
    import h5py

    found = KeyRanges(resolved.firsts)
    with h5py.File(path, "r", locking=False) as file:
        ids, embeddings = file["ids"], file["embeddings"]
        rows = max(BATCH_BYTES // max(embeddings.dtype.itemsize * embeddings.shape[1], 1), 1)
        for start, stop in ranges(0, len(ids), rows):
            batch = VectorBatch(ids[start:stop], embeddings[start:stop])
            found.add(batch.ids, hash_rows(batch))
    return found
