"""Datasets of OpenLineage; only imported where its provider is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.openlineage.facet import Dataset
from airflow.sdk import Asset

from airflow_provider_milvusdm.assets import SCHEME, convert_asset_to_openlineage


def source_dataset(source: str) -> Any:
    """The folder of a source, a path or a URL, without the connection in it."""
    parts = urlsplit(source)
    if not parts.scheme or parts.scheme == "file":
        return Dataset(namespace="file", name=str(Path(parts.path or source).absolute()))
    bucket = parts.netloc.rpartition("@")[2]
    return Dataset(namespace=f"{parts.scheme}://{bucket}", name=parts.path.strip("/") or "/")


def collection_dataset(asset: Asset) -> Any:
    """A collection of a server, or one in a Milvus Lite file."""
    parts = urlsplit(asset.uri)
    if parts.scheme == SCHEME:
        return convert_asset_to_openlineage(asset, None)
    return Dataset(namespace="file", name=parts.path)
