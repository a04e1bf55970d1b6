"""Nothing is created without the plan that was approved."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_milvusdm.manifests import CollectionPlan, to_json
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.operators.milvus import MilvusCreateCollectionOperator
from tests.support.xcom import XComs


def test_a_plan_that_nobody_approved_is_not_carried_out() -> None:
    """The task that asks was marked as successful by hand, so it returned nothing."""
    plan = to_json(CollectionPlan("news", TargetCollection("news")))
    create = MilvusCreateCollectionOperator(task_id="create", collections=[plan], approval="true", approved=None)
    with pytest.raises(AirflowFailException, match="No plan was approved"):
        XComs().run(create)
