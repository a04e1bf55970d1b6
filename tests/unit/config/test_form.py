"""The trigger form: what it shows first, its sections, its labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from airflow_provider_milvusdm.config.dag_doc import dag_doc, dag_title
from airflow_provider_milvusdm.config.form import CHOICES, FIRST, SECTIONS, arrange_form
from airflow_provider_milvusdm.config.jobs import F2M, H2M, JOBS, M2H, M2M
from airflow_provider_milvusdm.config.validation import Params


def form(job: type[Params]) -> dict[str, dict[str, Any]]:
    return arrange_form(job.model_json_schema()["properties"])


def test_each_param_has_one_place_in_the_form() -> None:
    placed = [name for names in SECTIONS.values() for name in names]
    assert Counter(placed) == Counter({name for job in JOBS.values() for name in job.model_fields})


@pytest.mark.parametrize(
    ("job", "first"),
    [
        (M2M, ["source_milvus_path", "source_collection", "milvus_conn_id", "mode", "dry_run"]),
        (H2M, ["data_path", "data_dir", "dest_collection_name", "milvus_conn_id", "mode", "dry_run"]),
        (F2M, ["data_path", "dest_collection_name", "milvus_conn_id", "mode", "dry_run"]),
        (M2H, ["source_milvus_path", "source_collection", "data_dir", "dry_run"]),
    ],
)
def test_the_form_opens_with_what_everybody_fills_in(job: type[Params], first: list[str]) -> None:
    sections = {name: schema.get("section", FIRST) for name, schema in form(job).items()}
    assert [name for name, section in sections.items() if section == FIRST] == first
    assert list(dict.fromkeys(sections.values())) == ["", "Source", "Target", "Policy", "Performance"]
    assert {field for field, info in job.model_fields.items() if info.is_required()} <= set(first)


@pytest.mark.parametrize("job", JOBS.values())
def test_each_choice_has_its_label(job: type[Params]) -> None:
    choices = {name: schema for name, schema in form(job).items() if "enum" in schema}
    assert choices
    for name, schema in choices.items():
        assert list(schema["values_display"]) == schema["enum"], name
        assert len(set(schema["values_display"].values())) == len(schema["enum"]), name
    assert set(choices) <= set(CHOICES)


def test_a_number_out_of_range_is_not_silently_replaced_by_its_bound() -> None:
    bounded = {name: schema["allOf"] for name, schema in form(M2M).items() if "allOf" in schema}
    assert bounded == {
        "dest_port": [{"minimum": 1, "maximum": 65535}],
        "approval_hours": [{"maximum": 8760, "exclusiveMinimum": 0}],
        "max_deletions": [{"minimum": 0, "maximum": 1}],
        "verify_search": [{"minimum": 0, "maximum": 10_000}],
        "search_recall": [{"minimum": 0, "maximum": 1}],
        "unit_mib": [{"minimum": 1}],
    }
    assert [name for name, schema in form(M2M).items() if {"minimum", "maximum"} & set(schema)] == []


@pytest.mark.parametrize("job", JOBS.values())
def test_the_documentation_of_a_dag_has_all_params_and_the_tasks_that_fail(job: type[Params]) -> None:
    text = dag_doc(job)
    assert [name for name in form(job) if f"\n| `{name}` |" not in text] == []
    for heading in ("### If a run fails", "### Params"):
        assert heading in text
    for task in ("inspect_source", "resolve_ids", "plan", "verify_counts", "report"):
        assert f"\n| `{task}` |" in text
    assert ("`create_collection`" in text) == (job is not M2H)
    assert " → " in dag_title(job)
