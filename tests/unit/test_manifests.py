"""Manifests as JSON and back; errors that pass between processes."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from airflow_provider_milvusdm.exceptions import DamagedSourceError, SourceError
from airflow_provider_milvusdm.manifests import (
    CollectionPlan,
    CreatedCollection,
    Exported,
    ExportUnit,
    Fault,
    Loaded,
    PartitionGroup,
    ResolvedGroup,
    ResolvedPartition,
    from_json,
    to_json,
)
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import (
    CollectionSpec,
    Metric,
    PartitionSpec,
    SegmentSpec,
    Slice,
    SourceRef,
    TargetCollection,
)
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.report import CollectionReport, PartitionReport, Report

SOURCE = SourceRef("milvus1x", "/data/新/tables")
NEWS = CollectionSpec("news", 16, Metric.TANIMOTO, "IVF_PQ", {"m": 16, "nlist": 2**60}, generated_ids=True)
TARGET = TargetCollection("articles", "key", "vector")
UNIT = LoadUnit(
    SOURCE,
    NEWS,
    (Slice("x", "news/1", 0, 10, "eJw="), Slice("y", "p/2", 5, 2**40, first_key=-7)),
    TARGET,
    "abc",
    upsert=True,
)
SEGMENTS = (SegmentSpec("news/1", 3),)
PARTITION = ResolvedPartition("2021-03 新闻", 3, 1, "f00d", excluded=1, notes=("a",))


@pytest.mark.parametrize(
    "manifest",
    [
        PartitionGroup("news", SOURCE, NEWS, (PartitionSpec("x", SEGMENTS, 5),), False, True, 1 << 28),
        PartitionGroup("news", SOURCE, error="it is gone"),
        ResolvedGroup("news", (PARTITION,), (UNIT,)),
        CollectionPlan(
            "news", TARGET, SOURCE, NEWS, True, (PARTITION,), {PARTITION.tag: "_2021"}, (UNIT,), notes=("a",)
        ),
        CreatedCollection("news", Action.RESUMED, {"_default": 0, "x": 7}, upsert=True),
        CreatedCollection("news", Action.CREATED, plan_only=True),
        ExportUnit(SOURCE, NEWS, "x", "/data/新/x.h5", "/data/.m", 3, UNIT.slices),
        Exported("news", "x", "/data/新/x.h5", "/data/.m", 3, 1.5),
        Loaded("news", {"x": 3}, 1.5, "abc"),
        Fault("news", "it is gone"),
        Report((CollectionReport("news", partitions=(PartitionReport("x", "y", 1, 2, 3),), faults=("a",)),)),
    ],
    ids=lambda manifest: type(manifest).__name__,
)
def test_a_manifest_comes_back_from_json_as_it_was(manifest: Any) -> None:
    text = json.dumps(to_json(manifest), allow_nan=False)
    assert from_json(type(manifest), json.loads(text)) == manifest


def test_an_error_says_what_where_expected_found_and_the_cure() -> None:
    error = DamagedSourceError("a file is cut", where="/a/b", expected="8 bytes", found=0, cure="Restore it.")
    assert str(error) == "A file is cut: /a/b. Expected 8 bytes, found 0. What to do: Restore it."
    assert str(SourceError("it is gone")) == "It is gone."


def test_an_error_outlives_its_process() -> None:
    error = DamagedSourceError("a file is cut", where="/a/b", expected="8 bytes", found=0, cure="Restore it.")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
    assert str(SourceError(str(error))) == str(error)
