"""The step that inspects a Faiss index."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifests import PartitionGroup
from airflow_provider_milvusdm.operators.inspect_files import FilesInspectOperator
from airflow_provider_milvusdm.operators.params import parse_argument
from airflow_provider_milvusdm.storage.paths import local_path


class FaissInspectOperator(FilesInspectOperator):
    """Inspect a Faiss index.

    :param allow_lossy: accept an index that stores only codes of its vectors, and reconstruct them with loss.
    """

    template_fields: Sequence[str] = (*FilesInspectOperator.template_fields, "allow_lossy")

    def __init__(self, *, allow_lossy: bool | str = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_lossy = allow_lossy

    def inspect(self, **target: Any) -> list[PartitionGroup]:
        if find_spec("faiss") is None:
            raise ConfigurationError("Faiss is not installed", cure="pip install 'airflow-provider-milvusdm[faiss]'.")
        from airflow_provider_milvusdm.sources.faiss.inspect import inspect_faiss
        from airflow_provider_milvusdm.sources.faiss.segment import FaissOptions

        options = FaissOptions(self.ids, allow_lossy=parse_argument(self.allow_lossy))
        return inspect_faiss(Path(local_path(parse_argument(self.data_path))), options=options, **target)
