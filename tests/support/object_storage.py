"""Buckets of a real S3, filled and looked at with nothing of the package."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3fs import S3FileSystem

from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.seaweedfs import S3Address


def airflow_connection(address: S3Address, *, secret_key: str | None = None, retries: int = 4) -> str:
    """A connection as `AIRFLOW_CONN_…` takes it; `retries` of a request to a server that is away."""
    return json.dumps(connection_fields(address, secret_key=secret_key, retries=retries))


def connection_fields(address: S3Address, *, secret_key: str | None = None, retries: int = 4) -> dict[str, Any]:
    """The same by its fields."""
    extra = {"endpoint_url": address.endpoint, "config_kwargs": {"retries": {"max_attempts": retries}}}
    return {
        "conn_type": "aws",
        "login": address.access_key,
        "password": secret_key or address.secret_key,
        "extra": extra,
    }


def publish(airflow: StandaloneAirflow, address: S3Address, folder: Path) -> str:
    """Upload a folder to a bucket of its own, and give Airflow the connection; returns the URL that tasks read."""
    bucket = Bucket.make(address)
    bucket.upload(folder, folder.name)
    fields = connection_fields(address)
    connection = fields | {"connection_id": "buckets", "extra": json.dumps(fields["extra"])}
    airflow.call("POST", "/api/v2/connections", connection)
    return f"s3://buckets@{bucket.name}/{folder.name}"


@dataclass(frozen=True)
class Bucket:
    filesystem: S3FileSystem
    name: str

    @classmethod
    def make(cls, address: S3Address) -> Bucket:
        """A new one."""
        bucket = cls(S3FileSystem(**address.options), f"milvusdm-{uuid.uuid4().hex[:12]}")
        bucket.filesystem.mkdir(bucket.name)
        return bucket

    def upload(self, folder: Path, key: str) -> None:
        """All files below a folder."""
        for path in (path for path in folder.rglob("*") if path.is_file()):
            self.filesystem.pipe_file(f"{self.name}/{key}/{path.relative_to(folder)}", path.read_bytes())

    def contents(self) -> Mapping[str, tuple[str, str]]:
        """ETag and time of the last change by key."""
        self.filesystem.invalidate_cache()
        found = self.filesystem.find(self.name, detail=True)
        return {key: (info["ETag"], str(info["LastModified"])) for key, info in found.items()}
