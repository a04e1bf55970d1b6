"""The file name of a report that is downloaded."""

from __future__ import annotations

import re

import pytest

from airflow_provider_milvusdm.archive.forms import FORMS
from airflow_provider_milvusdm.ui.app import get_report
from tests.support.stored_runs import planned_run

NAMES = [("d" * 250, "manual__" + "r" * 242), ('"; filename="x', "../..\\\r\nSet-Cookie: a=b"), ("données", "é" * 250)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dag_id", "run_id"), NAMES)
def test_a_file_has_a_name_that_each_system_takes(dag_id: str, run_id: str, form: str) -> None:
    run = planned_run({"news": 10})
    run.dag_id, run.run_id = dag_id, run_id
    header = get_report(run, form).headers["Content-Disposition"]  # type: ignore[arg-type]
    found = re.fullmatch(rf'attachment; filename="(milvusdm-[A-Za-z0-9_.-]+\.{form})"', header)
    assert found
    assert len(found[1]) <= 255
