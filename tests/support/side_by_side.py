"""Migrations that verify their collections concurrently, as Airflow's mapped tasks do: loading one takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.chain import Chain


def migrate(
    chain: Chain, selection: Any = "*", mode: str = "skip", rename: Mapping[str, str] | None = None
) -> dict[str, CollectionReport]:
    """What `chain.run` does; the reports by collection."""
    plans = chain.plan(selection, rename)
    created, faults = chain.create(plans, mode)
    loaded = chain.load(plans, created)
    made = {one.name: one for one in created}

    def verify(plan: Any) -> CollectionReport:
        loads = [load for load in loaded if load.collection == plan.name]
        return verify_collection(chain.client, plan, made.get(plan.name), loads, faults.get(plan.name, ()))

    with ThreadPoolExecutor(8) as threads:
        return dict(zip([plan.name for plan in plans], threads.map(verify, plans), strict=True))
