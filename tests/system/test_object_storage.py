"""A source in a bucket, migrated by Airflow's own command with a connection that only Airflow knows."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.airflow_home import dags_test
from tests.support.airflow_runs import read_task_logs, read_xcom
from tests.support.collections_2x import stored
from tests.support.directories import write_directory
from tests.support.object_storage import Bucket, airflow_connection
from tests.support.seaweedfs import S3Address
from tests.support.targets import milvus_client


@pytest.fixture
def bucket(seaweedfs: S3Address) -> Bucket:
    return Bucket.make(seaweedfs)


def test_a_bucket_is_migrated_and_its_secret_stays_in_the_connection(
    bucket: Bucket, seaweedfs: S3Address, templates_env: dict[str, str], milvus_lite_uri: str, tmp_path: Path
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(100), "part": range(100, 150)}})
    bucket.upload(directory.path, "milvus")
    before = bucket.contents()
    env = templates_env | {"AIRFLOW_CONN_BUCKETS": airflow_connection(seaweedfs)}
    source = f"s3://buckets@{bucket.name}/milvus"
    ended = dags_test(env, "milvusdm_m2m", {"source_milvus_path": source, "dest_uri": milvus_lite_uri})

    assert ended.run is not None, ended.output
    assert ended.state == "success", ended.output
    with milvus_client(milvus_lite_uri) as client:
        client.load_collection("news")
        assert stored(client, "news") == {tag: directory.live("news", tag) for tag in ("_default", "part")}
    assert bucket.contents() == before

    references = read_xcom(env, ended.run, "inspect_source")
    groups = [read_xcom(env, ended.run, reference["task"], key=reference["xcom"]) for reference in references]
    manifests = [manifest for group in groups for manifest in group]
    assert {manifest["source"]["folder"] for manifest in manifests} == {f"{source}/db/tables"}
    database = (Path(env["AIRFLOW_HOME"]) / "airflow.db").read_bytes().decode(errors="replace")
    written = f"{ended.output}\n{read_task_logs(env, ended.run)}\n{database}"
    for secret in (seaweedfs.secret_key, quote(seaweedfs.secret_key, safe="")):
        assert secret not in written
