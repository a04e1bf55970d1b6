"""MilvusDM's YAML files become jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_milvusdm.config.jobs import ScheduleParams
from airflow_provider_milvusdm.config.yaml_file import Job, read_yaml
from airflow_provider_milvusdm.exceptions import ConfigurationError
from tests.support.reading import assert_in_order

MILVUSDM_OWN = """\
M2M:
  milvus_version: 0.10.5
  source_milvus_path: '/data/milvus'
  mysql_parameter:
    host: '127.0.0.1'
    user: 'root'
    port: 3306
    password: 's3cret'
    database: 'milvus'
  source_collection: # specify the 'partition_1' and 'partition_2' partitions of the 'test' collection
    test:
      - 'partition_1'
      - 'partition_2'
  dest_host: '127.0.0.1'
  dest_port: 19530
  mode: 'append' # 'skip/append/overwrite'
"""

Write = Callable[[str], Path]
BEYOND_UNICODE = "ValueError" if sys.version_info >= (3, 13) else "OverflowError"
"""What Python raises for the number of a character that does not exist."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "M2M.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def job_with(write: Write, lines: str) -> Job:
    [job] = read_yaml(write("M2M:\n  source_milvus_path: /data/milvus\n" + lines))
    return job


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as fault:
        read_yaml(path)
    assert "s3cret" not in str(fault.value)
    return str(fault.value)


def test_milvusdms_own_file_is_accepted_unchanged(write: Write) -> None:
    [job] = read_yaml(write(MILVUSDM_OWN))
    assert (job.kind, job.dag_id) == ("M2M", "milvusdm_m2m")
    assert job.params == {
        "source_milvus_path": "/data/milvus",
        "source_collection": {"test": ["partition_1", "partition_2"]},
        "dest_host": "127.0.0.1",
        "dest_port": 19530,
        "mode": "append",
    }
    assert job.mysql == {
        "host": "127.0.0.1",
        "user": "root",
        "port": 3306,
        "password": "s3cret",
        "database": "milvus",
    }


def test_a_password_is_shown_nowhere(write: Write) -> None:
    [job] = read_yaml(write(MILVUSDM_OWN))
    assert "s3cret" not in f"{job} {job!r} {job.params}"


@pytest.mark.parametrize("key", ["milvus_version", "milvus-version"])
@pytest.mark.parametrize("value", ["2.0.0", "0.10.5", "1.1", "2", "", "[any, thing]", "v2.x"])
def test_the_version_is_accepted_and_ignored(write: Write, key: str, value: str) -> None:
    assert job_with(write, f"  {key}: {value}\n").params == {"source_milvus_path": "/data/milvus"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  source_collection:\n    test:\n", {"test": None}),
        ("  source_collection:\n    test:\n      - 'a'\n      - b\n", {"test": ["a", "b"]}),
        ("  source_collection:\n    test: a\n", {"test": ["a"]}),
        ("  source_collection:\n    test:\n    more:\n      - '2021'\n", {"test": None, "more": ["2021"]}),
        ("  source_collection: test\n", {"test": None}),
        ("  source_collection: [test, more]\n", {"test": None, "more": None}),
        ("  source_collection: '*'\n", {"*": None}),
        ("  source_collection:\n    '*':\n    test: [新闻]\n", {"*": None, "test": ["新闻"]}),
    ],
)
def test_each_form_of_the_collections(write: Write, text: str, expected: dict[str, Any]) -> None:
    assert job_with(write, text).params["source_collection"] == expected


@pytest.mark.parametrize("text", ["\n    test: []\n", " {test: {}}\n", "\n    more:\n    '*': []\n"])
def test_an_empty_list_of_partitions_is_refused(write: Write, text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"list of partitions of collection .* is empty.* null for all partitions"
    ):
        job_with(write, f"  source_collection:{text}")


@pytest.mark.parametrize("text", ["", "  source_collection:\n", "  mode:\n  dest_port:\n"])
def test_an_empty_param_has_its_default(write: Write, text: str) -> None:
    assert job_with(write, text).params == {"source_milvus_path": "/data/milvus"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("  mysql_parameter:\n", {}),
        ("  mysql_parameter: ''\n", {}),
        ("  mysql_parameter: {}\n", {}),
        ("  mysql_parameter:\n    host:\n    user: ''\n    port:\n    password:\n    database: ''\n", {}),
        ("  mysql_parameter: {host: db, password: '0'}\n", {"host": "db", "password": "0"}),
        ("  mysql_parameter: {host: db, port: 3306}\n", {"host": "db", "port": 3306}),
        ("  mysql_parameter: {host: db, port: '3306'}\n", {"host": "db", "port": "3306"}),
    ],
)
def test_mysql_parameter_without_its_empty_values(write: Write, text: str, expected: dict[str, Any]) -> None:
    job = job_with(write, text)
    assert job.mysql == expected
    assert "mysql_parameter" not in job.params


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("mysql://root:s3cret@db/milvus", "found str. What to do: Correct or remove"),
        ("[root, s3cret]", "found list. What to do: Correct or remove"),
        ("{hosts: db, username: root, password: s3cret}", "found hosts, username. What to do: Correct or remove"),
        ("{host: db, password: [s3cret]}", "found password"),
        ("{host: {s3cret: 1}}", "found host"),
        ("{1: s3cret, ~: s3cret}", "found 1, None"),
        ("{host: db, port: yes}", "found port"),
        ("{host: db, port: 3306.0}", "found port"),
        ("{host: db, port: 65536}", "found port"),
        ("{host: db, port: -1}", "found port"),
        ("{host: db, port: s3cret}", "found port"),
    ],
)
def test_a_bad_mysql_parameter_is_refused_without_its_values(write: Write, value: str, found: str) -> None:
    text = refusal(write(f"M2M:\n  source_milvus_path: /data\n  mysql_parameter: {value}\n"))
    assert "ysql_parameter" in text
    assert found in text
    assert "host, port, user, password, database" in text


@pytest.mark.parametrize("name", ["password", "user", "database", "host"])
@pytest.mark.parametrize("value", ["12345", "1_000", "0x1F", "no", "1.50", "2026-01-31"])
def test_text_that_yaml_reads_as_another_type_must_be_in_quotes(write: Write, name: str, value: str) -> None:
    job = "M2M:\n  source_milvus_path: /data\n  mysql_parameter: {{{}: {}}}\n"
    text = refusal(write(job.format(name, value)))
    assert_in_order(text, ["ysql_parameter", f"found {name}", "Put text in quotes"])
    assert value not in text
    [read] = read_yaml(write(job.format(name, f"'{value}'")))
    assert read.mysql == {name: value}


@pytest.mark.parametrize("value", ["010", "-010", "012345", "1:30", "0_1"])
@pytest.mark.parametrize("line", ["dest_port: {}", "mysql_parameter: {{password: {}}}"])
def test_a_number_that_yaml_reads_in_another_base_is_refused(write: Write, value: str, line: str) -> None:
    text = refusal(write(f"M2M:\n  source_milvus_path: /data\n  {line.format(value)}\n"))
    assert_in_order(text, ["in base 8 or 60", "line 3", "put it in quotes"])
    assert value not in text


@pytest.mark.parametrize("value", ["0", "3306", "-5", "1_000", "0x10", "0b11"])
def test_other_numbers_are_read_as_usual(write: Write, value: str) -> None:
    [job] = read_yaml(write(f"H2M:\n  data_path: a.h5\n  dest_collection_name: '010'\n  id_offset: {value}\n"))
    assert job.params["id_offset"] == int(value, 0)


def test_a_quoted_port_is_accepted(write: Write) -> None:
    assert job_with(write, "  dest_host: db\n  dest_port: '19530'\n").params["dest_port"] == 19530


def test_our_own_params_are_accepted(write: Write) -> None:
    job = job_with(write, "  dest_uri: lite.db\n  rename: {test: articles}\n  verify: counts\n  create_index: false\n")
    assert job.params == {
        "source_milvus_path": "/data/milvus",
        "dest_uri": "lite.db",
        "rename": {"test": "articles"},
        "verify": "counts",
        "create_index": False,
    }


def test_all_faults_of_a_job_are_told_at_once(write: Write) -> None:
    text = refusal(write("M2M:\n  dest_prot: 19530\n  mode: replace\n  source_collection: {test: [2021-03-01]}\n"))
    assert text.count("\n- ") == 4
    for part in ("source_milvus_path: required", "dest_prot: there is no such param; did you mean dest_port?", "mode:"):
        assert f"- {part}" in text
    assert "- source_collection.test.0: " in text


def test_a_misspelt_password_is_not_quoted(write: Write) -> None:
    refusal(write("M2M:\n  source_milvus_path: /data\n  mysql_paramter: {password: s3cret}\n"))


def test_a_password_in_a_block_that_is_indented_wrong_is_not_told(write: Write) -> None:
    block = "    mysql_parameter:\n      password: s3cret\n"
    text = refusal(write(f"M2M:\n  source_milvus_path: /data\n  source_collection:\n{block}"))
    assert "source_collection.mysql_parameter: Input should be a valid list, found dict" in text


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["without a job", "M2M.yaml", "Expected M2M or H2M or F2M or M2H with its", "found NoneType"]),
        ("- M2M: {password: s3cret}", ["without a job", "found list"]),
        ("s3cret", ["without a job", "found str"]),
        ("{}", ["without a job", "found dict"]),
        ("X2Y: {password: s3cret}", ["o such job", "Expected M2M", "found X2Y"]),
        ("m2m: {}", ["o such job", "Expected M2M", "found m2m"]),
        ("1: {}", ["o such job", "found 1"]),
        ("M2M:", ["ob M2M has no parameters", "found NoneType"]),
        ("M2M: s3cret", ["ob M2M has no parameters", "found str"]),
        ("M2M: [s3cret]", ["ob M2M has no parameters", "found list"]),
        ("M2M: {password: 's3cret}", ["ot a YAML file", "ound a fault in line 1", "quotes"]),
        ("M2M:\n  password: *s3cret\n", ["n alias", "M2M.yaml, line 2", "asterisk, put it in quotes"]),
        ("a: &a [x]\nM2M: {source_milvus_path: *a}\n", ["n alias", "M2M.yaml, line 2"]),
        ("M2M: &a [*a]\n", ["n alias", "line 1"]),
        ("M2M: !!python/object/apply:os.system ['exit']\n", ["ot a YAML file", "ound a fault in line 1"]),
        ("M2M: !!timestamp s3cret\n", ["ot a YAML file", "ound AttributeError"]),
        ("M2M: !!bool s3cret\n", ["ot a YAML file", "ound KeyError"]),
        ("M2M: !!int ''\n", ["ot a YAML file", "ound IndexError"]),
        ('M2M: "\\UFFFFFFFF"\n', ["ot a YAML file", f"ound {BEYOND_UNICODE}"]),
        ("M2M: " + "[" * 3000, ["ot a YAML file", "ound RecursionError"]),
        ("M2M: " + "{a: " * 3000 + "}" * 3000, ["ot a YAML file", "ound RecursionError"]),
        ("M2M:\n  password: !s3cret x\n", ["ot a YAML file", "ound a fault in line 2"]),
        ("M2M:\n\tmode: skip\n", ["ot a YAML file", "ound a fault in line 2"]),
        ("M2M: {a: 2021-99-99}", ["ot a YAML file", "quotes"]),
        ("M2M: {? [a] : b}", ["ot a YAML file", "ound a fault in line 1"]),
        ("M2M: {}\n---\nM2M: {}\n", ["ot a YAML file", "ound a fault in line 2"]),
        ("M2M: {mode: skip}\nM2M: {mode: append}\n", ["name occurs twice", "M2M.yaml", "found M2M"]),
        ("M2M:\n  source_collection:\n    test: [a]\n    test: [b]\n", ["name occurs twice", "found test"]),
    ],
)
def test_a_file_without_a_valid_job_is_refused(write: Write, content: str, parts: list[str]) -> None:
    text = refusal(write(content))
    assert all(part in text for part in parts), text


MILVUSDMS_OTHERS = {
    "H2M": """\
H2M:
  milvus-version: 1.x
  # Just config data_path or data_dir, while the other one is None.
  data_path:
    - /Users/data/example/byte_example.h5
  data_dir:
  dest_host: '127.0.0.1'
  dest_port: 19530
  mode: 'overwrite'        # 'skip/append/overwrite'
  dest_collection_name: 'test_bina'
  dest_partition_name: ''
  collection_parameter:
    dimension: 512
    index_file_size: 1024
    metric_type: 'HAMMING'

""",
    "F2M": """\
F2M:
  milvus_version: 1.x
  data_path: '/home/data/faiss1.index'
  dest_host: '127.0.0.1'
  dest_port: 19530
  mode: 'append'
  dest_collection_name: 'test01'
  dest_partition_name: ''
  collection_parameter:
    dimension: 256
    index_file_size: 1024
    metric_type: 'L2'
""",
    "M2H": """\
M2H:
  milvus_version: 1.x
  source_milvus_path: '/home/user/milvus'
  mysql_parameter:
    host: '127.0.0.1'
    user: 'root'
    port: 3306
    password: 's3cret'
    database: 'milvus'
  source_collection: # specify the 'partition_1' and 'partition_2' partitions of the 'test' collection.
    test:
      - 'partition_1'
      - 'partition_2'
  data_dir: '/home/user/data'
""",
}


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (
            "H2M",
            {
                "data_path": ["/Users/data/example/byte_example.h5"],
                "dest_host": "127.0.0.1",
                "dest_port": 19530,
                "mode": "overwrite",
                "dest_collection_name": "test_bina",
                "dest_partition_name": "",
                "collection_parameter": {"dimension": 512, "index_file_size": 1024, "metric_type": "HAMMING"},
            },
        ),
        (
            "F2M",
            {
                "data_path": "/home/data/faiss1.index",
                "dest_host": "127.0.0.1",
                "dest_port": 19530,
                "mode": "append",
                "dest_collection_name": "test01",
                "dest_partition_name": "",
                "collection_parameter": {"dimension": 256, "index_file_size": 1024, "metric_type": "L2"},
            },
        ),
        (
            "M2H",
            {
                "source_milvus_path": "/home/user/milvus",
                "source_collection": {"test": ["partition_1", "partition_2"]},
                "data_dir": "/home/user/data",
            },
        ),
    ],
)
def test_milvusdms_other_files_are_accepted_unchanged(write: Write, kind: str, params: dict[str, Any]) -> None:
    [job] = read_yaml(write(MILVUSDMS_OTHERS[kind]))
    assert (job.kind, job.dag_id, job.params) == (kind, f"milvusdm_{kind.lower()}", params)
    assert bool(job.mysql) == (kind == "M2H")


@pytest.mark.parametrize("spelling", ["null", "~", "", "''"])
def test_no_ids_dataset_can_be_written_in_several_ways(write: Write, spelling: str) -> None:
    [job] = read_yaml(write(f"H2M:\n  data_path: a.h5\n  dest_collection_name: n\n  ids_dataset: {spelling}\n"))
    assert not job.params["ids_dataset"]
    assert "ids_dataset" in job.params


def test_the_jobs_of_a_file_keep_its_order(write: Write) -> None:
    jobs = read_yaml(write(MILVUSDMS_OTHERS["M2H"] + MILVUSDM_OWN + MILVUSDMS_OTHERS["F2M"] + MILVUSDMS_OTHERS["H2M"]))
    assert [job.kind for job in jobs] == ["M2H", "M2M", "F2M", "H2M"]


def test_a_bad_job_refuses_the_whole_file(write: Write) -> None:
    assert "data_path: required" in refusal(write(MILVUSDMS_OTHERS["M2H"] + "F2M: {dest_collection_name: a}\n"))


def test_a_job_as_dry_run_differs_in_nothing_else(write: Write) -> None:
    for job in read_yaml(write(MILVUSDMS_OTHERS["M2H"] + MILVUSDMS_OTHERS["F2M"])):
        dry = job.as_dry_run()
        assert (dry.kind, dry.mysql, dry.schedule) == (job.kind, job.mysql, job.schedule)
        assert dry.params == {**job.params, "dry_run": True}


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        ("H2M", "dest_colection_name", "dest_collection_name"),
        ("H2M", "data_paths", "data_path"),
        ("F2M", "allow_loss", "allow_lossy"),
        ("M2H", "data_dirs", "data_dir"),
        ("F2M", "retry", "retries"),
        ("M2H", "scedule", "schedule"),
    ],
)
def test_an_unknown_key_is_refused_with_the_most_similar(write: Write, kind: str, wrong: str, right: str) -> None:
    text = refusal(write(f"{MILVUSDMS_OTHERS[kind].rstrip()}\n  {wrong}: s3cret\n"))
    assert f"- {wrong}: there is no such param; did you mean {right}?" in text


def test_a_param_of_another_job_is_refused(write: Write) -> None:
    text = refusal(write(MILVUSDMS_OTHERS["M2H"] + "  dest_host: milvus\n  mode: append\n"))
    assert "- dest_host: there is no such param" in text
    assert "- mode: there is no such param" in text


def test_keys_of_a_schedule_are_not_params(write: Write) -> None:
    schedule = "  schedule: '@daily'\n  start_date: 2026-01-31\n  tags: [mine]\n  owner: me\n  retries: 5\n"
    job = job_with(write, schedule)
    assert job.params == {"source_milvus_path": "/data/milvus"}
    assert job.schedule == ScheduleParams(
        schedule="@daily", start_date=date(2026, 1, 31), tags=("mine",), owner="me", retries=5
    )


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("schedule: 5", "schedule: "),
        ("start_date: tomorrow", "start_date: "),
        ("tags: {a: b}", "tags: "),
        ("retries: -1", "retries: "),
        ("retries: 3000000000", "retries: "),
        ("owner: [me]", "owner: "),
    ],
)
def test_a_bad_schedule_is_refused_with_the_faults_of_the_params(write: Write, line: str, fault: str) -> None:
    text = refusal(write(f"M2M:\n  mode: x\n  {line}\n"))
    for part in (fault, "source_milvus_path: required", "mode: "):
        assert f"- {part}" in text


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "M2M.yaml")
    assert "M2M.yaml" in refusal(tmp_path / "M2M.yaml")
    assert "directory" in refusal(tmp_path)


ENCODED = "# Migración\nM2M:\n  source_milvus_path: /data/é\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_another_encoding_is_refused_with_that_cause(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "M2M.yaml"
    path.write_bytes(ENCODED.encode(encoding))
    text = refusal(path)
    assert_in_order(text, ["he YAML file is not in UTF-8", str(path), "Found byte 0x", "Save it as UTF-8"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_of_utf_8_is_accepted(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "M2M.yaml"
    path.write_bytes(ENCODED.encode(encoding))
    assert read_yaml(path)[0].params["source_milvus_path"] == "/data/é"
