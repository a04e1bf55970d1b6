"""The step that tells Airflow which collections have arrived, for DAGs that are scheduled on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import Asset, AssetAlias
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_milvusdm.assets import ALIAS, create_asset, create_lite_asset
from airflow_provider_milvusdm.exceptions import TargetError
from airflow_provider_milvusdm.hooks.milvus_address import UNIX, database_of, is_file
from airflow_provider_milvusdm.manifests import CollectionPlan, from_json
from airflow_provider_milvusdm.operators.target import TargetOperator
from airflow_provider_milvusdm.operators.xcom import pull_all
from airflow_provider_milvusdm.report import VERIFIED, CollectionReport

if TYPE_CHECKING:
    from airflow.sdk import Context


class PublishAssetsOperator(TargetOperator):
    """Add an event of the asset of each collection that was loaded and verified; skipped if there is none.

    It is a task of its own because Airflow takes no events of a task that fails, and the task that verifies a group of
    collections fails if one of them differs.

    :param collections: one of the groups of plans of :class:`PlanOperator`.
    :param reports: what the verify tasks left under ``result``.

    The other arguments are those of :class:`TargetOperator`.
    """

    template_fields: Sequence[str] = ("collections", "reports", *TargetOperator.template_fields)
    member_type = CollectionPlan

    def __init__(self, *, collections: Any, reports: Any, **kwargs: Any) -> None:
        super().__init__(**{"outlets": [AssetAlias(ALIAS)], **kwargs})
        self.collections, self.reports = collections, reports
        self.sources: list[str] = []
        self.assets: list[Asset] = []

    @property
    def group(self) -> Any:
        return self.collections

    def step(self, context: Context) -> None:
        instance = context["ti"]
        manifests = pull_all(instance, self.reports, {self.input_id})
        reports = [from_json(CollectionReport, manifest) for manifest in manifests]
        verified = [report for report in reports if report.status == VERIFIED]
        arguments = self.hook.client_arguments()
        if not verified or str(arguments["uri"]).startswith(UNIX):
            raise AirflowSkipException("no collection was loaded and verified, or the target has no address")
        self._refuse_elsewhere(verified)
        self.sources = sorted({plan.source.folder for plan in self.members if plan.source})
        for report in verified:
            try:
                asset = _asset(arguments, report.target)
            except ValueError as error:
                self.log.warning("no asset event for collection %s: %s", report.target, error)
                continue
            self.assets.append(asset)
            context["outlet_events"][AssetAlias(ALIAS)].add(asset, extra=_extra(report, instance))
            self.log.info("arrived: %s", asset.uri)
        if not self.assets:
            raise AirflowSkipException("Airflow can't store the URI of any collection")

    def _refuse_elsewhere(self, verified: Sequence[CollectionReport]) -> None:
        """Raises TargetError if the connection has another address than when the collections were verified."""
        for report in verified:
            if report.address not in ("", self.address):
                raise TargetError(
                    f"collection {report.target!r} was verified in another target",
                    expected=report.address,
                    found=self.address,
                    cure="No event was added. Correct the connection, and clear this task.",
                )

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Source and collections as inputs and outputs of OpenLineage, whose provider calls this."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        from airflow_provider_milvusdm.operators.lineage import collection_dataset, source_dataset

        return OperatorLineage(
            inputs=[source_dataset(source) for source in self.sources],
            outputs=[collection_dataset(asset) for asset in self.assets],
        )


def _asset(arguments: Mapping[str, Any], collection: str) -> Asset:
    """The asset of a collection in the target of these arguments of a client.

    Raises ValueError if Airflow can't store its URI, of which a column holds 1,500 characters.
    """
    uri = str(arguments["uri"])
    if is_file(uri):
        return create_lite_asset(uri, collection)
    parts = urlsplit(uri)
    return create_asset(
        collection=collection, host=str(parts.hostname), port=int(parts.port or 0), database=database_of(arguments)
    )


def _extra(report: CollectionReport, instance: Any) -> dict[str, Any]:
    return {
        "collection": report.collection,
        "action": report.action,
        "rows": sum(partition.loaded for partition in report.partitions),
        "dag_id": instance.dag_id,
        "run_id": instance.run_id,
    }
