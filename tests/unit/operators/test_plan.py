"""The plan step requires the files of excluded rows that the resolve tasks of other workers have saved."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import FolderNotSharedError
from airflow_provider_milvusdm.manifests import to_json
from airflow_provider_milvusdm.model import shares
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.operators.plan import PlanOperator
from airflow_provider_milvusdm.rows.divide import divide_groups
from airflow_provider_milvusdm.rows.resolve import resolve_group
from tests.support.chain import inspect_directory
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.xcom import XComs


@pytest.mark.parametrize("share_rows", [20, 200])
@pytest.mark.parametrize("saved", [True, False])
def test_excluded_rows_on_the_disk_of_another_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share_rows: int, *, saved: bool
) -> None:
    monkeypatch.setattr(shares, "SHARE_ROWS", share_rows)
    directory, vectors = Milvus1xDirectory(tmp_path / "milvus"), np.ones((100, 8), np.float32)
    vectors[50] = np.nan
    directory.segment(directory.collection("news", dimension=8), range(100), vectors)
    groups = divide_groups(inspect_directory(directory.write()), 1024)
    assert len(groups) == (1 if share_rows == 200 else 5)
    folder = tmp_path / "skipped"
    policies = RowPolicies(invalid_vectors="skip", skipped_rows_dir=str(folder) if saved else "")
    resolved = [[to_json(resolve_group(group, policies))] for group in groups]
    plan = PlanOperator(task_id="plan", groups=[[to_json(group)] for group in groups], resolved=resolved)
    assert len(XComs().run(plan)) == 1
    assert folder.exists() == saved
    if saved:
        shutil.rmtree(folder)
        with pytest.raises(FolderNotSharedError, match=r"does not see a file of excluded rows .*/skipped/news/_def"):
            XComs().run(plan)
