"""What steps leave in XCom for people to see: facts of the run, and an overview of its collections.

The manifests themselves have all that later steps need, and are too large to be read again and again while a run is
watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_milvusdm import __version__
from airflow_provider_milvusdm.config.validation import Params, without_password
from airflow_provider_milvusdm.manifests import CollectionPlan, PartitionGroup
from airflow_provider_milvusdm.report import UNFINISHED, CollectionReport, PartitionReport

RUN_FACTS = "run"
"""XCom key of the :func:`run_facts`."""
OVERVIEW = "overview"
"""XCom key of an :func:`overview` of each collection, or of each group of its partitions."""


def run_facts(job: type[Params], params: Mapping[str, Any]) -> dict[str, Any]:
    """The job, its params, and the version of this package; params that are not of the job may be secret."""
    known = {name: without_password(value) for name, value in params.items() if name in job.model_fields}
    return {"job": job.__name__, "version": __version__, "params": known}


def overview(member: PartitionGroup | CollectionPlan) -> CollectionReport:
    """The report of a collection as far as it is known before anything is loaded."""
    if isinstance(member, PartitionGroup):
        return CollectionReport(
            member.name,
            status=UNFINISHED,
            partitions=tuple(PartitionReport(spec.tag, "", spec.live_rows, 0, 0) for spec in member.partitions),
            notes=member.notes,
            faults=(member.error,) if member.error else (),
        )
    return CollectionReport(
        member.name,
        member.target.name,
        UNFINISHED,
        metric=str(member.collection.metric) if member.collection else "",
        index=member.collection.index_type if member.collection else "",
        partitions=tuple(
            PartitionReport(
                partition.tag,
                member.partition_names[partition.tag],
                partition.live_rows,
                partition.deleted_rows,
                partition.excluded,
                fingerprint=partition.fingerprint,
            )
            for partition in member.partitions
        ),
        notes=member.notes,
        faults=(member.error,) if member.error else (),
    )
