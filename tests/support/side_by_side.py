"""Migrations that verify their collections side by side, as the members of a group: loading one takes seconds."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_milvusdm.operators.milvus import WAITING
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.targets.milvus.server.capabilities import serves_requests_concurrently
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

    with ThreadPoolExecutor(WAITING if serves_requests_concurrently(chain.client) else 1) as threads:
        return dict(zip([plan.name for plan in plans], threads.map(verify, plans), strict=True))
