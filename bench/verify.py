"""Full verification: every id and every byte of a collection read back and compared, against the load tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.targets.milvus.index_mapping import target_index
from airflow_provider_milvusdm.targets.milvus.prepare.existing import find_existing
from airflow_provider_milvusdm.targets.milvus.server.index import make_searchable
from airflow_provider_milvusdm.targets.milvus.units import loaded_into
from airflow_provider_milvusdm.targets.milvus.verify.full import compare_all
from bench.figures import Figure
from bench.inputs import write_directory
from bench.stage import Stage, timed
from tests.support.chain import Chain
from tests.support.peak_memory import peak_memory
from tests.support.targets import milvus_client

VERIFYING = (
    "airflow_provider_milvusdm.targets.milvus.verify.full",
    "airflow_provider_milvusdm.sources.milvus1x.segment",
)


def measure(stage: Stage) -> Iterator[Figure]:
    for shape in stage.scale.verified:
        with stage.folder() as folder, stage.server() as server:
            chain = Chain(write_directory(folder, shape), server.client)
            [plan] = plans = chain.plan()
            created, _ = chain.create(plans)
            loading = timed(chain.load, plans, created).seconds
            plan = replace(plan, target=loaded_into(plan, created[0]))
            server.client.flush(plan.target.name)
            make_searchable(server.client, plan.target, target_index(shape.collection))
            seconds, peak = peak_memory(_verify, server.address.uri, plan, created[0], imports=VERIFYING)
        limits, what = stage.scale.limits, f"{shape.rows:,} × {shape.label}, every byte"
        yield Figure("verify", what, shape.rows / seconds, "rows/s")
        limit = (
            None if shape.binary else limits.verify_of_load
        )  # a server takes as long for a short row as for a long one
        yield Figure("verify", f"{shape.label}: of the load tasks' time", seconds / loading, "×", limit)
        yield Figure("verify", f"{shape.label}: memory", peak / 1e6, "MB", limits.load_memory)


def _verify(uri: str, plan: CollectionPlan, created: CreatedCollection) -> float:
    with milvus_client(uri) as client:
        return timed(_compare, client, plan, created).seconds


def _compare(client: object, plan: CollectionPlan, created: CreatedCollection) -> None:
    marker = find_existing(client, plan.target.name).marker
    compared, faults = compare_all(client, plan, created, marker)
    if faults or compared != plan.rows:
        raise RuntimeError(f"{compared} rows compared\n" + "\n".join(faults))
