"""What names, metrics and indexes of 1.x become in 2.x."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.model.collections import CollectionSpec, Metric
from airflow_provider_milvusdm.sources.milvus1x.catalog import INDEXES, METRICS
from airflow_provider_milvusdm.targets.milvus.index_mapping import IndexSpec, target_index, target_metric
from airflow_provider_milvusdm.targets.milvus.server.capabilities import LITE_INDEX_TYPES
from airflow_provider_milvusdm.targets.names import refuse_names_of_others, target_name, target_names
from tests.support.reading import assert_in_order

PARAMS = {"nlist": 2048, "M": 16, "efConstruction": 100, "m": 4, "n_trees": 8, "search_length": 45}
IVF, HNSW = {"nlist": 2048}, {"M": 16, "efConstruction": 100}
GRAPH = {"M": 16, "efConstruction": 200}
NEAREST = {
    "FLAT": ("FLAT", {}, ""),
    "IVF_FLAT": ("IVF_FLAT", IVF, ""),
    "IVF_SQ8": ("IVF_SQ8", IVF, ""),
    "IVF_SQ8H": ("IVF_SQ8", IVF, "index IVF_SQ8H became IVF_SQ8"),
    "IVF_PQ": ("IVF_PQ", {"nlist": 2048, "m": 4, "nbits": 8}, ""),
    "RNSG": ("HNSW", GRAPH, "index RNSG became HNSW"),
    "SPTAG_KDT": ("HNSW", GRAPH, "index SPTAG_KDT became HNSW"),
    "SPTAG_BKT": ("HNSW", GRAPH, "index SPTAG_BKT became HNSW"),
    "ANNOY": ("HNSW", GRAPH, "index ANNOY became HNSW"),
    "HNSW": ("HNSW", HNSW, ""),
    "BIN_FLAT": ("FLAT", {}, "index BIN_FLAT became FLAT"),
    "BIN_IVF_FLAT": ("FLAT", {}, "index BIN_IVF_FLAT became FLAT"),
}
FLOAT_METRICS = [metric for metric in METRICS.values() if not metric.is_binary]
BIT_METRICS = [Metric.HAMMING, Metric.JACCARD, Metric.TANIMOTO]
STRUCTURE_METRICS = [Metric.SUBSTRUCTURE, Metric.SUPERSTRUCTURE]


def nearest(index_type: str, metric: Metric, params: dict[str, int] | None = None, dimension: int = 64) -> IndexSpec:
    collection = CollectionSpec("news", dimension, metric, index_type, PARAMS if params is None else params)
    return target_index(collection)


@pytest.mark.parametrize("metric", FLOAT_METRICS)
@pytest.mark.parametrize("index_type", INDEXES.values())
def test_each_index_of_float_vectors_has_a_counterpart(index_type: str, metric: Metric) -> None:
    found = nearest(index_type, metric)
    expected, params, note = NEAREST[index_type]
    assert (found.index_type, found.metric, found.params) == (expected, metric, params)
    assert [text.startswith(note) for text in found.notes] == [True] * bool(note)


@pytest.mark.parametrize("metric", BIT_METRICS)
@pytest.mark.parametrize("index_type", INDEXES.values())
def test_each_index_of_binary_vectors_has_a_counterpart(index_type: str, metric: Metric) -> None:
    found = nearest(index_type, metric)
    is_ivf = index_type == "BIN_IVF_FLAT"
    assert (found.index_type, found.params) == (("BIN_IVF_FLAT", IVF) if is_ivf else ("BIN_FLAT", {}))
    changed = [text for text in found.notes if text.startswith(f"index {index_type} became BIN_FLAT")]
    assert bool(changed) == (index_type not in ("FLAT", "BIN_FLAT", "BIN_IVF_FLAT"))


@pytest.mark.parametrize("metric", STRUCTURE_METRICS)
@pytest.mark.parametrize("index_type", INDEXES.values())
def test_structures_have_one_index(index_type: str, metric: Metric) -> None:
    found = nearest(index_type, metric)
    assert (found.index_type, found.metric, found.params) == ("BIN_FLAT", metric, {})
    reason = f"index {index_type} became BIN_FLAT: the only index for {metric}"
    assert found.notes == (() if index_type in ("FLAT", "BIN_FLAT") else (reason,))


@pytest.mark.parametrize("metric", METRICS.values())
def test_only_tanimoto_becomes_another_metric_and_the_report_says_so(metric: Metric) -> None:
    expected = Metric.JACCARD if metric == Metric.TANIMOTO else metric
    found, notes = target_metric(metric)
    assert found == expected
    assert bool(notes) == (found != metric)
    assert nearest("BIN_FLAT" if metric.is_binary else "FLAT", metric).notes == notes


@pytest.mark.parametrize(
    ("index_type", "params", "dimension", "expected", "notes"),
    [
        ("IVF_FLAT", {"nlist": 65536}, 64, "IVF_FLAT(nlist=65536)", []),
        ("IVF_FLAT", {"nlist": 65537}, 64, "IVF_FLAT(nlist=65536)", ["nlist became 65536: the source has 65537"]),
        ("IVF_SQ8", {"nlist": 0}, 64, "IVF_SQ8(nlist=1)", ["nlist became 1: the source has 0"]),
        ("IVF_FLAT", {}, 64, "IVF_FLAT(nlist=1024)", ["nlist became 1024: the source has none"]),
        ("HNSW", {"M": 4, "efConstruction": 512}, 64, "HNSW(M=4, efConstruction=512)", []),
        (
            "HNSW",
            {"M": 65, "efConstruction": 7},
            64,
            "HNSW(M=64, efConstruction=8)",
            ["M became 64: the source has 65", "efConstruction became 8: the source has 7"],
        ),
        ("IVF_PQ", {"m": 12, "nlist": 5}, 64, "IVF_FLAT(nlist=5)", ["IVF_FLAT: its m (12) does not divide"]),
        ("IVF_PQ", {"m": 128, "nlist": 5}, 64, "IVF_FLAT(nlist=5)", ["IVF_FLAT: its m (128) does not divide"]),
        ("IVF_PQ", {"m": -4, "nlist": 5}, 64, "IVF_FLAT(nlist=5)", ["IVF_FLAT: its m (-4) does not divide"]),
        ("IVF_PQ", {"nlist": 5}, 64, "IVF_FLAT(nlist=5)", ["IVF_FLAT: its m (0) does not divide"]),
        (
            "HNSW",
            {"M": 3, "efConstruction": 513},
            64,
            "HNSW(M=4, efConstruction=512)",
            ["M became 4: the source has 3", "efConstruction became 512: the source has 513"],
        ),
        ("HNSW", {"M": 64, "efConstruction": 8}, 64, "HNSW(M=64, efConstruction=8)", []),
        ("IVF_PQ", {"m": 1, "nlist": 1}, 64, "IVF_PQ(nlist=1, m=1, nbits=8)", []),
        ("IVF_PQ", {"m": 64, "nlist": 5}, 64, "IVF_PQ(nlist=5, m=64, nbits=8)", []),
        ("ANNOY", {"n_trees": 8}, 64, "HNSW(M=16, efConstruction=200)", ["became HNSW: the nearest graph index"]),
        ("RNSG", {"M": 60}, 64, "HNSW(M=16, efConstruction=200)", ["became HNSW: the nearest graph index"]),
        ("FLAT", {"nlist": 5}, 64, "FLAT", []),
    ],
)
def test_params_are_carried_over_within_their_ranges_and_changes_are_noted(
    index_type: str, params: dict[str, int], dimension: int, expected: str, notes: list[str]
) -> None:
    found = nearest(index_type, Metric.L2, params, dimension)
    assert str(found) == expected
    assert len(found.notes) == len(notes)
    assert all(note in text for note, text in zip(notes, found.notes, strict=True))


@pytest.mark.parametrize("index_type", INDEXES.values())
def test_milvus_lite_gets_flat_for_what_it_lacks(index_type: str) -> None:
    found = target_index(CollectionSpec("news", 64, Metric.IP, index_type, PARAMS), LITE_INDEX_TYPES)
    full = nearest(index_type, Metric.IP)
    if full.index_type in LITE_INDEX_TYPES:
        assert found == full
    else:
        assert (found.index_type, found.params, found.metric) == ("FLAT", {}, Metric.IP)
        assert found.notes == (f"index {index_type} became FLAT: {full.index_type} is not in this target",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("news", "news"),
        ("_default", "_default"),
        ("2021-03 news", "_2021_03_news"),
        ("2021", "_2021"),
        ("_2021", "_2021"),
        ("a.b$c/d", "a_b_c_d"),
        ("新闻", "__"),
        ("é1", "_1"),
        ("٣", "_"),
        ("a\nb", "a_b"),
        ("", "_"),
    ],
)
def test_a_name_becomes_one_that_milvus_accepts(name: str, expected: str) -> None:
    assert target_name(name) == expected


@given(st.text())
def test_a_mapped_name_is_mapped_to_itself(name: str) -> None:
    mapped = target_name(name)
    assert mapped.isascii()
    assert mapped.isidentifier()
    assert target_name(mapped) == mapped


def test_names_are_mapped_and_renamed() -> None:
    names = target_names(["2021", "news", "新闻"], {"n/新闻": "china", "news": "of another"}, "partition", "n/")
    assert names == {"2021": "_2021", "news": "news", "新闻": "china"}


@pytest.mark.parametrize(
    ("names", "rename"),
    [
        (["新闻", "体育"], {}),
        (["a-b", "a_b"], {}),
        (["a_b", "a-b"], {}),
        (["a", "b"], {"n/b": "a"}),
        (["a", "b"], {"n/a": "c", "n/b": "c"}),
        (["_default", "x"], {"n/x": "_default"}),
    ],
)
def test_two_names_that_become_one_are_refused_until_one_is_renamed(names: list[str], rename: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as fault:
        target_names(names, rename, "partition", "n/")
    text = str(fault.value)
    assert_in_order(
        text, [f"wo partitions would get the same name in the target: {names[0]!r} and {names[1]!r}", ": n", "ound"]
    )
    cure = json.loads(text[text.index("{") : text.index("}") + 1])
    assert cure == {f"n/{names[1]}": "another_name"}
    assert len(set(target_names(names, rename | cure, "partition", "n/").values())) == 2


@pytest.mark.parametrize(
    ("mapped", "others", "rename", "refused"),
    [
        ({"a-b": "a_b"}, ["a_b"], {}, True),
        ({"a-b": "a_b"}, ["c", "a b"], {}, True),
        ({"a_b": "a_b"}, ["a-b"], {}, False),
        ({"a-b": "a_b"}, ["a_b"], {"n/a-b": "a_b"}, False),
        ({"a-b": "a_b"}, ["c", "c-d", "c_d"], {}, False),
    ],
)
def test_a_changed_name_that_another_one_has_is_refused(
    mapped: dict[str, str], others: list[str], rename: dict[str, str], refused: bool
) -> None:
    expected = pytest.raises(ConfigurationError, match="'a-b'") if refused else nullcontext()
    with expected:
        refuse_names_of_others(mapped, others, rename, "partition", "n/")


@pytest.mark.parametrize("target", ["", "a b", "1a", "新闻", "a-b", "x" * 256, "a\n"])
def test_a_rename_to_an_invalid_name_is_refused(target: str) -> None:
    with pytest.raises(ConfigurationError) as fault:
        target_names(["news"], {"news": target}, "collection")
    assert_in_order(
        str(fault.value),
        ["ollection 'news' can't have this name", "Expected letters, digits", "255", f"found {target!r}", '{"news": '],
    )


def test_a_name_of_255_characters_is_accepted_and_one_of_256_refused() -> None:
    assert target_names(["x" * 255], {}, "collection") == {"x" * 255: "x" * 255}
    with pytest.raises(ConfigurationError, match="at most 255 characters"):
        target_names(["1" + "x" * 254], {}, "collection")
    assert target_names(["x" * 300], {"x" * 300: "short"}, "collection") == {"x" * 300: "short"}
