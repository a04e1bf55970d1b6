"""The plan step requires the files of excluded rows that the resolve tasks of other workers have saved."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_milvusdm.exceptions import FolderNotSharedError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.manifests import to_json
from airflow_provider_milvusdm.model import shares
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.operators.hdf5 import Hdf5UnitsOperator
from airflow_provider_milvusdm.operators.milvus import MilvusCreateCollectionOperator
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


@pytest.mark.parametrize("share_rows", [20, 200])
def test_what_a_dry_run_has_excluded_and_not_saved_is_neither_exported_nor_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share_rows: int
) -> None:
    """By a run whose ``dry_run`` was edited, and whose later tasks were cleared."""
    monkeypatch.setattr(shares, "SHARE_ROWS", share_rows)
    monkeypatch.setattr(MilvusHook, "client", lambda *_, **__: nullcontext(None))
    directory, vectors = Milvus1xDirectory(tmp_path / "milvus"), np.ones((100, 8), np.float32)
    vectors[[10, 50]] = np.nan
    directory.segment(directory.collection("news", dimension=8), range(100), vectors)
    groups = divide_groups(inspect_directory(directory.write()), 1024)
    resolved = [[to_json(resolve_group(group, RowPolicies(invalid_vectors="skip")))] for group in groups]
    xcoms, folder = XComs(), tmp_path / "out"
    plan = PlanOperator(task_id="plan", groups=[[to_json(group)] for group in groups], resolved=resolved)
    plans = xcoms.manifests(*xcoms.run(plan))

    units = Hdf5UnitsOperator(task_id="units", collections=[plans], data_dir=str(folder), run="news/1")
    with pytest.raises(AirflowFailException, match="2 rows in no file"):
        xcoms.run(units)
    assert not folder.exists()
    create = MilvusCreateCollectionOperator(task_id="create", collections=plans, dest_uri="http://milvus:19530")
    with pytest.raises(AirflowFailException, match="2 rows in no file"):
        xcoms.run(create)
