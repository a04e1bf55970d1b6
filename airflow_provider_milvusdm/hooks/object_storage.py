"""URLs of object storage in Airflow's form, ``s3://conn_id@bucket/path``, opened with that connection."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_milvusdm.exceptions import ConfigurationError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore

CURE = "pip install 'airflow-provider-milvusdm[s3]' for s3://; other schemes come with the providers that list them."


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a URL, and the path in it.

    Without a connection, the credentials of the environment or of the machine are used. Raises ConfigurationError if
    the URL holds a login or no installed package opens such URLs, and AirflowNotFoundException for an unknown
    connection.
    """
    from airflow.sdk import BaseHook, ObjectStoragePath
    from airflow.sdk.io import has_fs
    from fsspec.core import url_to_fs

    parts = urlsplit(url)
    conn_id = parts.netloc.rpartition("@")[0]
    if ":" in conn_id:
        raise ConfigurationError(
            "a URL holds a login",
            expected=f"{parts.scheme}://conn_id@…",
            cure="Put the login into an Airflow connection, and change the password, because it has been logged.",
        )
    if conn_id:
        BaseHook.get_connection(conn_id)  # without this check, a hook may ignore a connection that does not exist
    try:
        if conn_id or has_fs(parts.scheme):
            path = ObjectStoragePath(url)
            return path.fs, path.path
        filesystem, key = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigurationError("can't open a URL", where=url, found=error, cure=CURE) from error
    return filesystem, key


def open_import_store(url: str) -> ImportStore:
    """Where the target reads the files of bulk imports, by a connection's ``import_url``.

    Raises ConfigurationError if ``url`` is not a folder or bucket, or for what :func:`open_url` does.
    """
    from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore

    parts = urlsplit(url)
    if not parts.scheme or bool(parts.netloc) == (parts.scheme == "file"):
        raise ConfigurationError(
            "import_url of the connection is not the URL of a folder or bucket",
            expected="s3://conn_id@bucket/folder, or file:///folder on the server's own disk",
            found=url.rpartition("@")[2],
            cure="Correct the connection.",
        )
    files, path = open_url(url)
    root = path.rstrip("/")
    bucket = root.partition("/")[0]
    return ImportStore(files, root, bucket=len(f"{bucket}/") if bucket else 0)
