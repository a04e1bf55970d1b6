"""Rows that Milvus 1.x accepts and 2.x refuses: which are loaded with each policy, and with which keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import RefusedRowsError
from airflow_provider_milvusdm.manifests import ResolvedGroup
from airflow_provider_milvusdm.model.collections import SOURCE_ID
from airflow_provider_milvusdm.model.mask import from_text, to_text
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.rows.reader import read_slices
from airflow_provider_milvusdm.rows.resolve import resolve_group
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import HAMMING
from tests.support.reading import Rows, assert_in_order, inspect, read_rows, resolve

RANDOM = np.random.default_rng(20_201_111)
LARGEST = 2**63 - 1


def shared_ids(directory: Milvus1xDirectory, **collection: Any) -> Path:
    """Three segments with few different ids and vectors, and with deleted rows."""
    binary = bool(collection)
    news = directory.collection("news", dimension=16 if binary else 2, **collection)
    for rows in (60, 1, 90):
        ids, deleted = RANDOM.integers(-20, 20, rows).tolist(), RANDOM.permutation(rows)[: rows // 5].tolist()
        values = RANDOM.integers(0, 2, (rows, 2))
        directory.segment(news, ids, values.astype(np.uint8 if binary else np.float32), deleted=deleted)
    return directory.write()


def keep_first(rows: Rows) -> Rows:
    return list({row_id: (row_id, vector) for row_id, vector in reversed(rows)}.values())


def keep_last(rows: Rows) -> Rows:
    return keep_first(rows[::-1])


def notes(groups: Iterable[ResolvedGroup]) -> str:
    return "\n".join(note for group in groups for part in group.partitions for note in part.notes)


@pytest.mark.parametrize("collection", [{}, {"metric": HAMMING}], ids=["float", "binary"])
@pytest.mark.parametrize(("policy", "kept"), [("keep_first", keep_first), ("keep_last", keep_last)])
def test_one_row_of_each_id_is_kept(
    directory: Milvus1xDirectory, policy: str, kept: Any, collection: dict[str, Any]
) -> None:
    groups = resolve(shared_ids(directory, **collection), policies=RowPolicies(policy), unit_bytes=40)
    rows = directory.live_rows("news")
    expected = kept(rows)
    assert sorted(read_rows(groups[0].units)["news", "_default"]) == sorted(expected)
    [partition] = groups[0].partitions
    assert (partition.live_rows, partition.rows, partition.excluded) == (
        len(rows),
        len(expected),
        len(rows) - len(expected),
    )
    left = [row for row in rows if row not in expected]
    same = len(rows) - len(expected) - len(left)
    assert f"{len(left)} rows excluded: another row with their id was kept (duplicate_ids: {policy})" in notes(groups)
    assert f"{same} rows excluded that have the same id and vector as another" in notes(groups)


@pytest.mark.parametrize("unit_bytes", [16, 40, 1 << 28])
def test_remapped_rows_get_keys_by_their_position(directory: Milvus1xDirectory, unit_bytes: int) -> None:
    path = shared_ids(directory)
    found: list[list[tuple[int, int, bytes]]] = []
    for _ in range(2):
        [group] = resolve(path, policies=RowPolicies("remap"), unit_bytes=unit_bytes)
        assert group.own_keys
        batches = [
            batch for unit in group.units for *_, batch in read_slices(unit.source, unit.collection, unit.slices, 9)
        ]
        found.append(
            [
                (int(key), int(row_id), vector.tobytes())
                for batch in batches
                for key, row_id, vector in zip(batch.ids, batch.columns[SOURCE_ID], batch.vectors, strict=True)
            ]
        )
    assert found[0] == found[1]
    assert [(row_id, vector) for _, row_id, vector in found[0]] == directory.live_rows("news")
    assert len({key for key, *_ in found[0]}) == len(found[0])
    assert group.partitions[0].excluded == 0
    assert "ids are on several rows: each row gets a new key" in notes([group])


def test_key_ranges_of_two_partitions_never_overlap(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    for table in (news, directory.partition(news, "x"), directory.partition(news, "y")):
        directory.segment(table, [5, 5], [[0, 1], [2, 3]])
    path = directory.write()
    whole = keys(resolve(path, policies=RowPolicies("remap")))
    one_by_one = [resolve(path, {"news": [tag]}, RowPolicies("remap")) for tag in ("_default", "x", "y")]
    alone = keys(group for groups in one_by_one for group in groups)
    assert len({key for keys in whole.values() for key in keys}) == 6
    assert whole == alone


def keys(groups: Iterable[ResolvedGroup]) -> dict[tuple[str, str], list[int]]:
    rows = read_rows(unit for group in groups for unit in group.units)
    return {place: [key for key, _ in found] for place, found in rows.items()}


def test_the_id_that_milvus_never_returns_can_be_remapped(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=2), [LARGEST], [[0, 1]])
    assert resolve(directory.write(), policies=RowPolicies("remap"))[0].partitions[0].rows == 1


def test_identical_rows_need_no_policy(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    directory.segment(news, [5, 6], [[0, 1], [2, 3]])
    directory.segment(news, [6, 5], [[2, 3], [0, 1]])
    groups = resolve(directory.write())
    assert read_rows(groups[0].units)["news", "_default"] == directory.live_rows("news")[:2]
    assert groups[0].partitions[0].excluded == 2
    assert notes(groups) == "partition '_default': 2 rows excluded that have the same id and vector as another row"


def test_zeros_of_both_signs_are_different_vectors(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=2), [5, 5], [[0.0, 1], [-0.0, 1]])
    with pytest.raises(RefusedRowsError, match="1 ids are on rows with different vectors"):
        resolve(directory.write())


def test_excluded_rows_change_the_fingerprint(directory: Milvus1xDirectory) -> None:
    path = shared_ids(directory)
    prints = {
        resolve(path, policies=RowPolicies(policy))[0].partitions[0].fingerprint
        for policy in ("keep_first", "keep_last", "remap")
    }
    assert len(prints) == 3


def test_partitions_that_become_one_share_their_keys(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    directory.segment(news, [5, 6], [[0, 1], [2, 3]], segment_id="7")
    directory.segment(directory.partition(news, "x", table_id="t"), [5, 7], [[9, 9], [2, 3]], segment_id="8")
    [group] = inspect(directory.write(), max_tasks=2)
    group = replace(group, one_key_space=True)
    with pytest.raises(RefusedRowsError) as fault:
        resolve_group(group)
    assert_in_order(str(fault.value), ["1 ids", "the partitions of collection 'news'", "id 5 in segments news/7, t/8"])
    found = read_rows(resolve_group(group, RowPolicies("keep_last")).units)
    assert {tag: [row_id for row_id, _ in rows] for (_, tag), rows in found.items()} == {"_default": [6], "x": [5, 7]}


def test_an_id_under_two_tags_is_two_rows_even_if_the_vectors_are_equal(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    directory.segment(news, [5, 6], [[0, 1], [2, 3]], segment_id="7")
    directory.segment(directory.partition(news, "x", table_id="t"), [5, 6, 6], [[0, 1], [2, 3], [2, 3]])
    [group] = inspect(directory.write(), max_tasks=2)
    group = replace(group, one_key_space=True)
    with pytest.raises(RefusedRowsError) as fault:
        resolve_group(group)
    assert_in_order(str(fault.value), ["2 ids are on rows with different tags or vectors", "id 5", "ids 5, 6"])
    for policy, counts, excluded in (("keep_first", (2, 0), 3), ("keep_last", (0, 2), 2)):
        resolved = resolve_group(group, RowPolicies(policy))
        rows = read_rows(resolved.units)
        assert (len(rows["news", "_default"]), len(rows["news", "x"])) == counts
        told = f"{excluded} rows excluded: another row with their id was kept (duplicate_ids: {policy}), "
        assert told + f"for {excluded} of them under another tag" in notes([resolved])
    rows = read_rows(resolve_group(group, RowPolicies("remap")).units)
    assert {tag: len(found) for (_, tag), found in rows.items()} == {"_default": 2, "x": 3}


def test_identical_rows_under_the_same_tag_are_one_row(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=2)
    directory.segment(news, [5, 5], [[0, 1], [0, 1]])
    directory.segment(directory.partition(news, "x"), [6], [[0, 1]])
    [group] = inspect(directory.write(), max_tasks=2)
    resolved = resolve_group(replace(group, one_key_space=True))
    assert sum(partition.rows for partition in resolved.partitions) == 2
    assert notes([resolved]) == "1 rows excluded that have the same id and vector as another row"


@pytest.mark.parametrize("tag", ["2021-03 news", "../x/\0%[]", "新" * 255])
def test_invalid_vectors_are_saved_and_excluded(directory: Milvus1xDirectory, tmp_path: Path, tag: str) -> None:
    news = directory.collection("news/../x", dimension=16)
    table = directory.partition(news, tag, table_id="t")
    vectors = np.arange(160 * 3, dtype=np.float32).reshape(30, 16)
    vectors[[3, 8, 29], [0, 5, 15]] = np.nan, np.inf, -np.inf
    directory.segment(table, range(20), vectors[:20], deleted=[8, 2], segment_id="7")
    directory.segment(table, range(20, 30), vectors[20:], segment_id="8")
    skipped = tmp_path / "skipped"
    groups = resolve(directory.write(), {"news/../x": [tag]}, RowPolicies("error", "skip", str(skipped)))
    expected = [row for row in directory.live_rows("news/../x", tag) if row[0] not in (3, 29)]
    assert read_rows(groups[0].units)["news/../x", tag] == expected
    assert (groups[0].partitions[0].live_rows, groups[0].partitions[0].excluded) == (28, 2)
    [path] = skipped.glob("*/*")
    assert f"2 rows with NaN or infinity are in {path}" in notes(groups)
    with h5py.File(path) as file:
        assert (file.attrs["collection"], file.attrs["partition"]) == ("news/../x", tag.replace("\0", "%00"))
        assert file["ids"][:].tolist() == [3, 29]
        assert file["segment"].asstr()[:].tolist() == ["t/7", "t/8"]
        assert file["offset"][:].tolist() == [3, 9]
        assert file["embeddings"][:].tobytes() == vectors[[3, 29]].tobytes()


def test_excluded_rows_of_two_partitions_are_in_two_files(directory: Milvus1xDirectory, tmp_path: Path) -> None:
    news, tags = directory.collection("news", dimension=2), ["a 13", "a\u2013"]
    for number, tag in enumerate(tags):
        directory.segment(directory.partition(news, tag), [number], [[np.nan, 1]])
    resolve(directory.write(), {"news": tags}, RowPolicies("error", "skip", str(tmp_path / "skipped")))
    saved = {}
    for path in (tmp_path / "skipped" / "news").iterdir():
        with h5py.File(path) as file:
            saved[file.attrs["partition"]] = file["ids"][:].tolist()
    assert saved == {"a 13": [0], "a\u2013": [1]}


def test_without_a_folder_excluded_rows_are_only_counted(directory: Milvus1xDirectory) -> None:
    directory.segment(directory.collection("news", dimension=2), [5, 6], [[np.nan, 1], [2, 3]])
    groups = resolve(directory.write(), policies=RowPolicies("error", "skip"))
    assert (groups[0].partitions[0].excluded, Path("news").exists()) == (1, False)
    assert "1 rows with NaN or infinity would be excluded and saved" in notes(groups)


def test_a_skipped_row_is_no_duplicate(directory: Milvus1xDirectory, tmp_path: Path) -> None:
    directory.segment(directory.collection("news", dimension=2), [5, 5], [[np.nan, 1], [2, 3]])
    groups = resolve(directory.write(), policies=RowPolicies("error", "skip", str(tmp_path / "skipped")))
    assert read_rows(groups[0].units)["news", "_default"] == directory.live_rows("news")[1:]


def test_there_is_no_file_if_nothing_was_skipped(directory: Milvus1xDirectory, tmp_path: Path) -> None:
    directory.segment(directory.collection("news", dimension=2), [5], [[0, 1]])
    resolve(directory.write(), policies=RowPolicies("error", "skip", str(tmp_path / "skipped")))
    assert not [path for path in (tmp_path / "skipped").rglob("*") if path.is_file()]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 1000])
def test_a_mask_is_the_same_after_text(rows: int) -> None:
    for mask in (np.ones(rows, bool), np.zeros(rows, bool), RANDOM.random(rows) < 0.5):
        assert from_text(to_text(mask), rows).tolist() == mask.tolist()


def test_a_mask_of_few_rows_is_small() -> None:
    mask = np.zeros(1_000_000, bool)
    mask[::100_000] = True
    assert len(to_text(mask)) < 400
