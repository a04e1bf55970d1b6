"""Many small collections in a run of a real scheduler with four slots, from the trigger to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from airflow_provider_milvusdm.cli.local_run import templates
from bench.figures import Figure
from bench.many import write_collections
from bench.stage import Stage, timed
from tests.support.airflow_home import airflow_env, migrate_database
from tests.support.airflow_standalone import StandaloneAirflow, standalone_airflow

DAG_ID = "milvusdm_m2m"


def measure(stage: Stage) -> Iterator[Figure]:
    collections = stage.scale.collections
    with stage.folder() as folder, stage.server() as server:
        source = write_collections(folder, collections, {"_default": range(200)})
        database = migrate_database(folder.with_name("database"))
        with standalone_airflow(airflow_env(folder.with_name("airflow"), templates(), database)) as airflow:
            airflow.wait_for_dag(DAG_ID)
            conf = {"source_milvus_path": str(source), "dest_uri": server.address.uri}
            seconds = timed(run, airflow, conf).seconds
    what = f"{collections} collections of 200 rows, server, four slots"
    yield Figure("scheduler", what, seconds, "s", stage.scale.limits.scheduled)


def run(airflow: StandaloneAirflow, conf: Mapping[str, str]) -> None:
    """A run of the DAG, which fails unless every collection is verified."""
    ended = airflow.wait_for_run(DAG_ID, airflow.trigger(DAG_ID, conf), seconds=1800)
    if ended.state != "success":
        raise RuntimeError(f"{ended.run_id}: {ended.state}")
