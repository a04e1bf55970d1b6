"""What is advised where searches find too little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_milvusdm.manifests import from_json, to_json
from airflow_provider_milvusdm.model.collections import Metric
from airflow_provider_milvusdm.report import SearchReport, SearchTrial
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec
from airflow_provider_milvusdm.targets.milvus.verify.search_advice import advise, settings_to_try

FOUND = SearchReport(100, 10, 0.6, 1.0, 2.0)
IVF = IndexSpec("IVF_FLAT", Metric.L2, {"nlist": 1024})


@pytest.mark.parametrize(
    ("index_type", "index_params", "params", "expected"),
    [
        ("IVF_FLAT", {"nlist": 1024}, {}, [{"nprobe": 32}, {"nprobe": 128}, {"nprobe": 512}]),
        ("IVF_FLAT", {"nlist": 128}, {}, [{"nprobe": 32}, {"nprobe": 128}]),
        ("IVF_SQ8", {"nlist": 128}, {"nprobe": 100, "a": 1}, [{"nprobe": 128, "a": 1}]),
        ("IVF_FLAT", {"nlist": 128}, {"nprobe": 128}, []),
        ("HNSW", {}, {}, [{"ef": 64}, {"ef": 256}, {"ef": 1024}]),
        ("HNSW", {}, {"ef": 128}, [{"ef": 256}, {"ef": 1024}]),
        ("FLAT", {}, {}, []),
        ("AUTOINDEX", {}, {}, []),
    ],
)
def test_settings_that_find_more_are_tried(
    index_type: str, index_params: dict[str, Any], params: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    assert settings_to_try(IndexSpec(index_type, Metric.L2, index_params), params) == expected


def test_the_first_setting_that_finds_enough_is_advised() -> None:
    found = replace(
        FOUND, tried=tuple(SearchTrial({"nprobe": number}, recall) for number, recall in ((32, 0.85), (128, 0.97)))
    )
    assert advise(IVF, found, 0.9) == (
        "With nprobe=32 the recall is 0.8500, nprobe=128 the recall is 0.9700. "
        'Set search_params to {"nprobe": 128}, with which your application must search then, too, '
        'or choose another index: target: {"index_type": "HNSW"} finds more, {"index_type": "FLAT"} is exact.'
    )
    assert from_json(SearchReport, to_json(found)) == found


def test_another_index_is_advised_where_no_setting_finds_enough() -> None:
    found = replace(FOUND, tried=(SearchTrial({"ef": 64}, 0.7),))
    hnsw = IndexSpec("HNSW", Metric.L2)
    assert advise(hnsw, found, 0.9) == (
        'With ef=64 the recall is 0.7000. Choose another index: target: {"index_type": "FLAT"} is exact.'
    )
    binary = IndexSpec("BIN_IVF_FLAT", Metric.HAMMING, {"nlist": 8})
    assert advise(binary, FOUND, 0.9) == 'Choose another index: target: {"index_type": "BIN_FLAT"} is exact.'


def test_an_exact_index_is_not_to_blame() -> None:
    assert "set verify to full" in advise(IndexSpec("FLAT", Metric.L2), FOUND, 1.0)
