"""What all steps that know the address of a Milvus 2.x have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.operators.group import MappedMigrationOperator
from airflow_provider_milvusdm.operators.params import ADDRESS, hook_arguments


class TargetOperator(MappedMigrationOperator):
    """A mapped step with the address of the target.

    :param milvus_conn_id: connection to Milvus 2.x.
    :param dest_host: replaces the connection's host.
    :param dest_port: replaces the connection's port.
    :param dest_uri: replaces host and port; a path is a Milvus Lite file.
    """

    template_fields: Sequence[str] = ADDRESS

    def __init__(
        self,
        *,
        milvus_conn_id: str = MilvusHook.default_conn_name,
        dest_host: str | None = None,
        dest_port: int | str | None = None,
        dest_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.milvus_conn_id = milvus_conn_id
        self.dest_host, self.dest_port, self.dest_uri = dest_host, dest_port, dest_uri

    @cached_property
    def hook(self) -> MilvusHook:
        return MilvusHook(**self.hook_arguments)

    @cached_property
    def address(self) -> str:
        """That of the hook. Only the main thread may read it first."""
        return self.hook.address

    @property
    def hook_arguments(self) -> dict[str, Any]:
        """Arguments of :class:`MilvusHook`; they hold no secrets."""
        return hook_arguments(self.milvus_conn_id, self.dest_host, self.dest_port, self.dest_uri)
