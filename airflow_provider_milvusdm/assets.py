"""Assets: a collection of Milvus 2.x that was migrated and verified.

``milvus://host:port/database/collection`` is a collection of a server. A Milvus Lite file is a folder on the workers'
disk, so its collection is ``file:///path/target.db/collection``.

Airflow compares the name of an asset as well as its URI, and the name is the URI as it was written. So a DAG that is
scheduled on a collection writes the whole URI, or calls :func:`create_asset`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from airflow.sdk import Asset

if TYPE_CHECKING:
    from openlineage.client.event_v2 import Dataset

ALIAS = "milvusdm"
"""The asset alias of all collections that this package migrates."""
SCHEME = "milvus"
DEFAULT_PORT, DEFAULT_DATABASE = 19530, "default"


def create_asset(
    *,
    collection: str,
    host: str = "localhost",
    port: int = DEFAULT_PORT,
    database: str = DEFAULT_DATABASE,
    extra: dict[str, Any] | None = None,
) -> Asset:
    """The asset of a collection on a server. Raises ValueError if ``host`` holds a login, which its name would show."""
    if "@" in host:
        raise ValueError("the host of an asset must not hold a login: it belongs in an Airflow connection")
    address = f"{_normal(host)}:{port}"
    return Asset(uri=f"{SCHEME}://{address}/{_quote(database)}/{_quote(collection)}", extra=extra)


def create_lite_asset(path: str, collection: str) -> Asset:
    """The asset of a collection in a Milvus Lite file."""
    return Asset(uri=f"file://{quote(str(Path(path).absolute()))}/{_quote(collection)}")


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """The URI with port, database and quotes as :func:`create_asset` writes them.

    Raises ValueError if it holds a login, or if it names no collection.
    """
    if "@" in uri.netloc:
        raise ValueError("a URI milvus://… must not hold a login: it belongs in an Airflow connection")
    names = [unquote(part) for part in uri.path.strip("/").split("/")]
    if not uri.hostname or not all(names) or len(names) > 2 or uri.query:
        raise ValueError("expected milvus://host:port/database/collection")
    collection, database = names[-1], names[0] if len(names) == 2 else DEFAULT_DATABASE
    return uri._replace(
        netloc=f"{_normal(uri.hostname)}:{uri.port or DEFAULT_PORT}", path=f"/{_quote(database)}/{_quote(collection)}"
    )


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    """A collection as a dataset of OpenLineage: namespace ``milvus://host:port``, name ``database.collection``."""
    from airflow.providers.common.compat.openlineage.facet import Dataset

    parts = sanitize_uri(urlsplit(asset.uri))
    name = ".".join(unquote(part) for part in parts.path.strip("/").split("/"))
    return Dataset(namespace=f"{SCHEME}://{parts.netloc}", name=name)


def _quote(name: str) -> str:
    return quote(name, safe="")


def _normal(host: str) -> str:
    return host.lower().removesuffix(".")
