"""A collection that was loaded and is yet to be verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection
from airflow_provider_milvusdm.report import CollectionReport
from airflow_provider_milvusdm.targets.milvus.prepare.create import create_collection
from airflow_provider_milvusdm.targets.milvus.verify.collection import verify_collection
from tests.support.chain import Chain


class Loaded:
    """Collection `news` loaded, not yet verified."""

    def __init__(self, client: MilvusClient, directory: Path, selection: Any = "news", **options: Any) -> None:
        self.client = client
        self.chain = Chain(directory, client, **options)
        self.plan: CollectionPlan
        [self.plan] = self.chain.plan(selection)
        self.load()

    def load(self) -> None:
        """By a new run, which goes on with what another left."""
        self.created: CreatedCollection = create_collection(self.client, self.plan, "skip", create_index=False)
        self.loads = self.chain.load([self.plan], [self.created])

    def verify(self, verify: str = "sample", **options: Any) -> CollectionReport:
        return verify_collection(self.client, self.plan, self.created, self.loads, verify=verify, **options)
