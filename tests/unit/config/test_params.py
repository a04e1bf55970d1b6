"""Params of the jobs: which values are accepted, and that all faults are told at once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_milvusdm.config.jobs import F2M, H2M, JOBS, M2H, M2M
from airflow_provider_milvusdm.config.target_settings import CollectionSettings
from airflow_provider_milvusdm.config.validation import Params, parse_selection, read_params
from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.model.collections import Metric
from tests.support.reading import assert_in_order

CURE = " What to do: Correct them and start again; nothing was read or written."
PATH = {"source_milvus_path": "/data/milvus"}


def faults(params: dict[str, Any], job: type[Params] = M2M) -> list[str]:
    """The fault of each bad param."""
    with pytest.raises(ConfigurationError) as fault:
        read_params(job, params)
    listed = str(fault.value).removesuffix(CURE).splitlines()
    return [line[2:].removesuffix(".") for line in listed if line.startswith("- ")]


def test_defaults() -> None:
    assert read_params(M2M, PATH).model_dump() == PATH | {
        "source_collection": {"*": None},
        "mysql_conn_id": None,
        "mysql_charset": "auto",
        "catalog_path": None,
        "tables_path": None,
        "wal_path": None,
        "milvus_conn_id": "milvus_default",
        "dest_host": None,
        "dest_port": None,
        "dest_uri": None,
        "mode": "skip",
        "overwrite": "swap",
        "take_over": False,
        "approval": False,
        "approval_hours": 24,
        "max_deletions": 0.1,
        "alias": None,
        "rename": {},
        "id_field": "id",
        "vector_field": "embedding",
        "create_index": True,
        "duplicate_ids": "error",
        "id_scope": "collection",
        "invalid_vectors": "error",
        "skipped_rows_dir": None,
        "unflushed_log": "replay",
        "unlisted_segments": "error",
        "partitions": "keep",
        "auto_id": "keep",
        "load_method": "insert",
        "verify": "full",
        "verify_search": 0,
        "search_recall": 0.9,
        "search_params": {},
        "unit_mib": None,
        "dry_run": False,
        "target": {**dict.fromkeys(CollectionSettings.model_fields), "collections": {}},
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("news", {"news": None}),
        ("*", {"*": None}),
        (["news", "more"], {"news": None, "more": None}),
        ("news\nmore\n", {"news": None, "more": None}),
        (" news/2021-03 \n\nmore\r\nnews/a/b\nnews/2021-03", {"news": ["2021-03", "a/b"], "more": None}),
        (["news/2021-03 sports", "news/_default"], {"news": ["2021-03 sports", "_default"]}),
        ({"news": None}, {"news": None}),
        ({"news": "2021"}, {"news": ["2021"]}),
        ({"news": ["2021", "_default"], "more": None}, {"news": ["2021", "_default"], "more": None}),
    ],
)
def test_each_form_of_a_selection_becomes_an_object(value: Any, expected: dict[str, Any]) -> None:
    assert parse_selection(value) == expected
    assert read_params(M2M, {**PATH, "source_collection": value}).source_collection == expected


@pytest.mark.parametrize("lines", [["news", "news/2021"], ["news/2021", "news"]])
def test_a_collection_is_listed_as_a_whole_or_by_its_partitions(lines: list[str]) -> None:
    [fault] = faults({**PATH, "source_collection": "\n".join(lines)})
    assert_in_order(fault, ["source_collection: Collection 'news' is listed as a whole and by its partitions"])


@pytest.mark.parametrize("tags", [[], (), {}, False, 0])
@pytest.mark.parametrize("name", ["news", "*"])
@pytest.mark.parametrize("job", [M2M, M2H])
def test_an_empty_list_of_partitions_is_refused(job: type[Params], name: str, tags: Any) -> None:
    params = PATH | {"source_collection": {"other": None, name: tags}} | ({"data_dir": "/data"} if job is M2H else {})
    [fault] = faults(params, job)
    assert_in_order(
        fault, ["source_collection: The list of partitions of collection", repr(name), "null", f"found {tags!r}"]
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("source_milvus_path", ""),
        ("source_milvus_path", 5),
        ("source_collection", {}),
        ("source_collection", []),
        ("source_collection", ""),
        ("source_collection", 5),
        ("source_collection", None),
        ("source_collection", ["news", 5]),
        ("source_collection", [["news"]]),
        ("source_collection", [{"news": None}]),
        ("source_collection", {"news": 5}),
        ("source_collection", {"news": [2021]}),
        ("source_collection", {"news": {"2021": None}}),
        ("source_collection", {2021: None}),
        ("mysql_conn_id", 5),
        ("mysql_charset", "utf8"),
        ("catalog_path", ["a"]),
        ("tables_path", True),
        ("wal_path", 1.5),
        ("milvus_conn_id", ""),
        ("milvus_conn_id", None),
        ("dest_host", 5),
        ("dest_port", 0),
        ("dest_port", 65536),
        ("dest_port", "port"),
        ("dest_port", "-1"),
        ("dest_port", "65536"),
        ("dest_port", 1.5),
        ("dest_port", True),
        ("dest_uri", 5),
        ("id_scope", "all"),
        ("mode", "replace"),
        ("mode", "Skip"),
        ("mode", None),
        ("overwrite", "in place"),
        ("overwrite", None),
        ("take_over", "yes"),
        ("approval", "yes"),
        ("approval_hours", 0),
        ("approval_hours", 8761),
        ("max_deletions", -0.1),
        ("max_deletions", 1.1),
        ("max_deletions", float("nan")),
        ("max_deletions", "0.1"),
        ("alias", 5),
        ("alias", {"news": None}),
        ("rename", {"news": 5}),
        ("rename", ["news"]),
        ("rename", "news"),
        ("id_field", "1id"),
        ("id_field", "id\n"),
        ("id_field", ""),
        ("vector_field", "my vector"),
        ("vector_field", "x" * 256),
        ("create_index", "yes"),
        ("create_index", 1),
        ("duplicate_ids", "keep"),
        ("duplicate_ids", None),
        ("invalid_vectors", "ignore"),
        ("skipped_rows_dir", 5),
        ("unflushed_log", "forget"),
        ("unlisted_segments", "replay"),
        ("partitions", "partition-key"),
        ("partitions", None),
        ("auto_id", True),
        ("load_method", "copy"),
        ("verify", "all"),
        ("verify_search", -1),
        ("verify_search", "5"),
        ("search_recall", 1.1),
        ("search_recall", "0.9"),
        ("search_params", {"nprobe": [1]}),
        ("search_params", {"radius": math.nan}),
        ("search_params", 5),
        ("unit_mib", 0),
        ("unit_mib", "256"),
        ("unit_mib", 1.5),
        ("dry_run", "yes"),
        ("dry_run", None),
        ("target", "HNSW"),
        ("target", {"index_type": 5}),
        ("target", {"metric_type": "cosine"}),
        ("target", {"shards": 0}),
        ("target", {"shards": 65}),
        ("target", {"consistency_level": "strong"}),
        ("target", {"replicas": 0}),
        ("target", {"max_partitions": 0}),
        ("target", {"mmap": "yes"}),
        ("target", {"load": 0}),
        ("target", {"index_params": {"M": [16]}}),
        ("target", {"collections": {"news": None}}),
    ],
)
def test_a_bad_value_is_refused_with_its_name(name: str, value: Any) -> None:
    [fault, *more] = faults({**PATH, name: value})
    assert fault.startswith(name)
    assert ", found " in fault
    assert all(other.startswith(name) for other in more)


def test_every_param_has_a_bad_value_above() -> None:
    table = test_a_bad_value_is_refused_with_its_name.pytestmark[0].args[1]
    assert {name for name, _ in table} == set(M2M.model_fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dest_port", 65535),
        ("dest_port", "19530"),
        ("dest_host", ""),
        ("rename", {"news/2021": "y2021"}),
        ("id_field", "_key2"),
        ("create_index", False),
        ("unflushed_log", "ignore"),
        ("partitions", "partition_key"),
        ("auto_id", "off"),
        ("verify", "counts"),
        ("verify", "full"),
        ("verify", "none"),
        ("id_scope", "partition"),
        ("mode", "append"),
        ("mode", "overwrite"),
        ("mode", "sync"),
        ("max_deletions", 0),
        ("max_deletions", 1),
        ("alias", "articles"),
        ("alias", {"news": "articles"}),
        ("unit_mib", 1),
        ("unit_mib", None),
    ],
)
def test_a_good_value_is_accepted(name: str, value: Any) -> None:
    expected = int(value) if name == "dest_port" else value
    assert getattr(read_params(M2M, {**PATH, name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("source_colection", "did you mean source_collection?"),
        ("modes", "did you mean mode?"),
        ("dest_ports", "did you mean dest_port?"),
        ("zzz", "there is no such param"),
        ("mysql_parameter", "create an Airflow connection from it, and set mysql_conn_id to its id"),
    ],
)
def test_an_unknown_param_is_refused_with_the_most_similar(name: str, hint: str) -> None:
    [fault] = faults({**PATH, name: {"password": "s3cret"}})
    assert fault.startswith(f"{name}: there is no such param")
    assert hint in fault
    assert "s3cret" not in fault


def test_all_faults_are_told_at_once() -> None:
    found = faults({"mode": "x", "unit_mib": 0, "rename": {"a": 1, "b": 2}, "sources": "x", "dest_port": "x"})
    names = {"source_milvus_path", "dest_port", "mode", "rename.a", "rename.b", "unit_mib", "sources"}
    assert len(found) == len(names)
    assert {fault.split(":")[0] for fault in found} == names
    assert "source_milvus_path: required" in found


@pytest.mark.parametrize("other", [{"dest_host": "milvus"}, {"dest_port": 19530}])
def test_a_uri_excludes_host_and_port(other: dict[str, Any]) -> None:
    assert read_params(M2M, {**PATH, "dest_uri": "lite.db"}).dest_uri == "lite.db"
    with pytest.raises(ConfigurationError, match=r"(?i)dest_uri and dest_host or dest_port are both set"):
        read_params(M2M, {**PATH, "dest_uri": "lite.db", **other})


@pytest.mark.parametrize("name", ["id_field", "vector_field"])
def test_the_field_of_the_tags_is_used_for_nothing_else(name: str) -> None:
    params = {**PATH, name: "partition_tag"}
    assert getattr(read_params(M2M, params), name) == "partition_tag"
    [fault] = faults({**params, "partitions": "partition_key"})
    assert "id_field or vector_field is partition_tag" in fault


LEAST: dict[type[Params], dict[str, Any]] = {
    M2M: PATH,
    H2M: {"data_path": ["a.h5"], "dest_collection_name": "news"},
    F2M: {"data_path": "a.index", "dest_collection_name": "news"},
    M2H: {**PATH, "data_dir": "/data/hdf5"},
}
"""What each job requires."""


@pytest.mark.parametrize("job", JOBS.values())
def test_a_job_needs_its_required_params_and_no_others(job: type[Params]) -> None:
    assert read_params(job, LEAST[job]).model_fields_set == set(LEAST[job])
    for name in set(LEAST[job]) - {"data_path"}:
        rest = {other: value for other, value in LEAST[job].items() if other != name}
        assert faults(rest, job) == [f"{name}: required"]


def test_defaults_of_files() -> None:
    h2m, f2m = read_params(H2M, LEAST[H2M]), read_params(F2M, LEAST[F2M])
    for files in (h2m, f2m):
        assert (files.dest_partition_name, files.id_offset, files.mode) == (None, 0, "skip")
        assert files.collection_parameter.model_dump() == dict.fromkeys(("dimension", "index_file_size", "metric_type"))
    assert (h2m.data_dir, h2m.embeddings, h2m.ids_dataset, h2m.ids) == (None, "embeddings", "ids?", "row_number")
    assert f2m.allow_lossy is False


def test_a_path_alone_is_a_list_of_one() -> None:
    assert read_params(H2M, {**LEAST[H2M], "data_path": "a.h5"}).data_path == ["a.h5"]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, "neither"),
        ({"data_path": None, "data_dir": ""}, "neither"),
        ({"data_path": []}, "neither"),
        ({"data_path": ["a.h5"], "data_dir": "/data"}, "both"),
    ],
)
def test_either_hdf5_files_or_their_folder_are_given(params: dict[str, Any], found: str) -> None:
    expected = f"data_path or data_dir: one of the two, found {found}"
    assert faults({"dest_collection_name": "news", **params}, H2M) == [expected]


@pytest.mark.parametrize("job", [M2M, H2M, F2M])
def test_contradictions_of_the_target_are_found_in_each_job_that_writes_to_milvus(job: type[Params]) -> None:
    both = {**LEAST[job], "dest_uri": "http://root:s3cret@milvus:19530", "dest_port": 19530}
    found = faults(both, job)
    assert len(found) == 2
    assert "both set" in found[0]
    assert "a login belongs in the connection" in found[1]
    assert "s3cret" not in "".join(found)


@pytest.mark.parametrize(("job", "name"), [(M2M, "milvus_conn_id"), (M2M, "mysql_conn_id"), (M2H, "mysql_conn_id")])
def test_a_connection_in_place_of_its_id_is_refused_without_being_told(job: type[Params], name: str) -> None:
    [found] = faults({**LEAST[job], name: "mysql://root:s3cret@host/db"}, job)
    assert found.startswith(f"{name}: a login belongs in the connection")
    assert "s3cret" not in found


@pytest.mark.parametrize(("job", "name"), [(M2H, "data_dir"), (F2M, "data_path")])
def test_a_url_in_place_of_a_path_is_refused_without_being_told(job: type[Params], name: str) -> None:
    [found] = faults({**LEAST[job], name: "s3://key:s3cret@bucket/out"}, job)
    assert found.startswith(f"{name}: A URL is not possible here")
    assert "s3://…" in found
    assert "s3cret" not in found


def test_folders_that_are_one_by_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    [found] = faults({**LEAST[M2H], "data_dir": str(tmp_path), "skipped_rows_dir": str(tmp_path / "link")}, M2H)
    assert found.startswith("data_dir and skipped_rows_dir are the same folder")


@pytest.mark.parametrize(
    ("job", "params", "fault"),
    [
        (M2M, {"mode": "sync", "duplicate_ids": "remap"}, "mode: sync with duplicate_ids: remap"),
        (H2M, {"mode": "sync", "ids": "auto"}, "mode: sync with ids: auto"),
        (M2M, {"mode": "sync", "alias": "a"}, "mode: sync with alias"),
        (
            M2M,
            {"partitions": "partition_key", "id_scope": "partition"},
            "partitions: partition_key with id_scope: partition",
        ),
        (F2M, {"mode": "append", "alias": "a"}, "mode: append with alias"),
        (H2M, {"create_index": False, "alias": "a"}, "create_index: false with alias"),
        (
            M2H,
            {"data_dir": "/out", "skipped_rows_dir": "/x/../out/"},
            "data_dir and skipped_rows_dir are the same folder",
        ),
    ],
)
def test_params_that_exclude_each_other_are_refused(job: type[Params], params: dict[str, Any], fault: str) -> None:
    [found] = faults({**LEAST[job], **params}, job)
    assert found.startswith(f"{fault}: ")


@pytest.mark.parametrize(
    ("job", "name", "value"),
    [
        (H2M, "data_path", [5]),
        (H2M, "data_path", 5),
        (H2M, "ids", "dataset"),
        (H2M, "embeddings", ""),
        (H2M, "id_offset", "0"),
        (H2M, "id_offset", 1.5),
        (H2M, "dest_collection_name", ""),
        (H2M, "dest_partition_name", 5),
        (H2M, "collection_parameter", {"dimension": 0}),
        (H2M, "collection_parameter", {"dimension": "8"}),
        (H2M, "collection_parameter", {"metric_type": "EUCLIDEAN"}),
        (H2M, "collection_parameter", {"dimensions": 8}),
        (F2M, "data_path", ["a.index"]),
        (F2M, "data_path", ""),
        (F2M, "allow_lossy", "yes"),
        (F2M, "ids", "index"),
        (M2H, "data_dir", ""),
        (M2H, "mode", "append"),
        (M2H, "id_scope", "partition"),
        (M2H, "dest_host", "milvus"),
        (M2H, "rename", {"a": 1}),
    ],
)
def test_a_bad_value_of_another_job_is_refused_with_its_name(job: type[Params], name: str, value: Any) -> None:
    assert [fault for fault in faults({**LEAST[job], name: value}, job) if not fault.startswith(name)] == []


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ({"target": {"index_typ": 1}}, "target.index_typ: there is no such param; did you mean index_type?"),
        ({"target": {"collection": {}}}, "target.collection: there is no such param; did you mean collections?"),
        (
            {"target": {"collections": {"news": {"replica": 1}}}},
            "target.collections.news.replica: there is no such param; did you mean replicas?",
        ),
        (
            {"collection_parameter": {"dimensions": 8}},
            "collection_parameter.dimensions: there is no such param; did you mean dimension?",
        ),
    ],
)
def test_an_unknown_name_in_a_block_is_refused_with_the_most_similar(block: dict[str, Any], fault: str) -> None:
    assert faults({**LEAST[H2M], **block}, H2M) == [fault]


def test_faults_of_a_file_contain_its_path() -> None:
    with pytest.raises(
        ConfigurationError, match=r"(?i)these params of /a/b\.yaml can't be used:\n- data_dir: required"
    ):
        read_params(M2H, PATH, where="/a/b.yaml")


def test_the_settings_of_a_collection_are_those_of_all_but_for_its_own() -> None:
    news = {"index_type": "DISKANN", "load": False, "index_params": {}}
    params = {**PATH, "target": {"metric_type": "IP", "index_type": "HNSW", "shards": 2, "collections": {"news": news}}}
    target = read_params(M2M, params).target
    assert target.of("other") == CollectionSettings(metric_type=Metric.IP, index_type="HNSW", shards=2)
    assert target.of("news") == CollectionSettings(
        metric_type=Metric.IP, index_type="DISKANN", shards=2, load=False, index_params={}
    )


def test_index_file_size_is_explained() -> None:
    read = read_params(H2M, {**LEAST[H2M], "collection_parameter": {"index_file_size": 1024}})
    assert read.collection_parameter.notes() == (
        "index_file_size 1024 is ignored: Milvus 2.x chooses the size of segments itself",
    )
