"""Plans: what was resolved, with its names in the target; and load units with these names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, PartitionGroup, ResolvedGroup
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.rows import RowPolicies
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.targets.milvus.units import address_units
from airflow_provider_milvusdm.targets.plan import plan_collections
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.reading import assert_in_order, inspect, read_rows


@pytest.fixture
def groups(directory: Milvus1xDirectory) -> list[PartitionGroup]:
    """Collections `news` (10 rows, and 5 in `2021`) and `more` (3 rows)."""
    news = directory.collection("news", dimension=4)
    for table, rows in {
        news: 10,
        directory.partition(news, "2021"): 5,
        directory.collection("more", dimension=4): 3,
    }.items():
        directory.segment(table, range(rows), np.full((rows, 4), table.id))
    return inspect(directory.write(), unit_bytes=1)


def plan(
    groups: list[PartitionGroup],
    rename: Mapping[str, str] | None = None,
    *,
    failed: Mapping[str, str] | None = None,
    **names: Any,
) -> dict[str, CollectionPlan]:
    """Plans by collection; groups whose label is in `failed` were not resolved."""
    failed = failed or {}
    resolved: list[ResolvedGroup] = [resolve_group(group) for group in groups if group.label not in failed]
    faults = {label.split("/")[0]: fault for label, fault in failed.items() if fault}
    plans = plan_collections(groups, resolved, faults, rename=rename or {}, **names)
    return {found.name: found for found in plans}


def test_a_plan_holds_everything_that_was_resolved(groups: list[PartitionGroup]) -> None:
    plans = plan(groups, {"more": "others"}, id_field="key", vector_field="vector")
    assert list(plans) == ["news", "more"]
    news = plans["news"]
    assert (news.error, news.whole, news.target.name) == ("", True, "news")
    assert (news.target.id_field, news.target.vector_field) == ("key", "vector")
    assert news.partition_names == {"_default": "_default", "2021": "_2021"}
    assert [(part.tag, part.live_rows) for part in news.partitions] == [("_default", 10), ("2021", 5)]
    assert {where: len(rows) for where, rows in read_rows(news.units).items()} == {
        ("news", "_default"): 10,
        ("news", "2021"): 5,
    }
    assert plans["more"].target.name == "others"


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("segment 7 is gone", "segment 7 is gone"),
        ("", "partitions 2021 of collection 'news' were not resolved"),
    ],
)
def test_a_collection_that_was_not_fully_resolved_has_an_error_and_others_have_a_plan(
    groups: list[PartitionGroup], fault: str, expected: str
) -> None:
    plans = plan(groups, failed={"news/2021": fault})
    assert plans["news"].error.startswith(expected)
    assert plans["news"].units == ()
    assert plans["more"].error == ""


def test_a_collection_that_inspect_refused_keeps_its_error(groups: list[PartitionGroup]) -> None:
    broken = PartitionGroup("broken", groups[0].source, error="version 0.6.0")
    plans = plan([broken, *groups], {"broken/x": "y", "news/2021": "z"}, failed={"broken": ""})
    assert plans["broken"].error == "version 0.6.0"
    assert plans["news"].partition_names["2021"] == "z"


def test_notes_of_a_group_are_in_the_plan(groups: list[PartitionGroup]) -> None:
    plans = plan([replace(group, notes=(f"of {group.name}",)) for group in groups])
    assert {name: one.notes for name, one in plans.items()} == {"news": ("of news",), "more": ("of more",)}


def test_partitions_are_renamed_within_their_collection(groups: list[PartitionGroup]) -> None:
    plans = plan(groups, {"news/2021": "y2021", "news/_default": "rest"})
    assert plans["news"].partition_names == {"_default": "rest", "2021": "y2021"}
    assert plans["more"].partition_names == {"_default": "_default"}


@pytest.mark.parametrize("rename", [{"new": "x"}, {"news/2022": "x"}, {"more/2021": "x"}, {"2021": "x"}])
def test_a_rename_of_something_that_is_not_migrated_is_refused(
    groups: list[PartitionGroup], rename: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError) as fault:
        plan(groups, rename)
    assert_in_order(
        str(fault.value),
        [
            "ename names collections or partitions that are not migrated",
            "Expected",
            f"found {next(iter(rename))}",
            "Correct",
        ],
    )


def test_two_collections_with_the_same_name_stop_the_run(groups: list[PartitionGroup]) -> None:
    with pytest.raises(ConfigurationError, match="wo collections would get the same name"):
        plan(groups, {"more": "news"})


def test_two_partitions_with_the_same_name_stop_only_their_collection(groups: list[PartitionGroup]) -> None:
    plans = plan(groups, {"news/2021": "_default"})
    assert_in_order(plans["news"].error, ["wo partitions would get the same name", "'_default' and '2021'", "rename"])
    assert plans["more"].error == ""


def test_the_fingerprint_depends_on_the_rows_and_their_partitions(groups: list[PartitionGroup]) -> None:
    first = plan(groups)["news"].fingerprint
    assert plan(list(reversed(groups)))["news"].fingerprint == first
    assert plan(groups, {"more": "others"})["news"].fingerprint == first
    others = [
        plan(groups, {"news": "articles"})["news"].fingerprint,
        plan(groups, {"news/2021": "y2021"})["news"].fingerprint,
        plan([group for group in groups if group.label != "news/2021"])["news"].fingerprint,
    ]
    assert len({first, *others}) == 4


def test_units_are_addressed_to_what_was_created(groups: list[PartitionGroup]) -> None:
    plans = plan(groups, {"news": "articles", "news/2021": "y2021"})
    created = CreatedCollection("news", Action.CREATED, {"_default": 0, "y2021": 0}, upsert=True)
    units = address_units(list(plans.values()), [created])
    assert {unit.collection.name for unit in units} == {"news"}
    assert {where: len(rows) for where, rows in read_rows(units).items()} == {
        ("news", "_default"): 10,
        ("news", "y2021"): 5,
    }
    for unit in units:
        assert unit.target == plans["news"].target
        assert (unit.migration, unit.upsert) == (plans["news"].fingerprint, True)


def test_partitions_that_are_left_as_they_are_get_no_units(directory: Milvus1xDirectory) -> None:
    news = directory.collection("news", dimension=4)
    for table in (news, directory.partition(news, "a"), directory.partition(news, "b")):
        directory.segment(table, [1, 2], np.zeros((2, 4)))
    [group] = inspect(directory.write(), max_tasks=2)
    plans = plan([group])
    assert len(plans["news"].units) == 1
    [unit] = address_units(list(plans.values()), [CreatedCollection("news", Action.ADDED, {"a": 0})])
    assert [row_slice.partition for row_slice in unit.slices] == ["a"]
    assert address_units(list(plans.values()), [CreatedCollection("news", Action.SKIPPED)]) == []


def test_tags_become_a_partition_key_as_they_are(groups: list[PartitionGroup]) -> None:
    groups = [replace(group, one_key_space=True) for group in groups]
    news = plan(groups)["news"]
    assert (news.target.partition_field, news.partition_names) == (
        "partition_tag",
        {"_default": "_default", "2021": "2021"},
    )
    assert "ename names partitions" in plan(groups, {"news/2021": "y2021"})["news"].error
    assert plan(groups, {"news": "articles"})["news"].target.name == "articles"


@pytest.mark.parametrize(
    ("generated", "auto_id", "own_keys", "expected"),
    [
        (True, "keep", False, True),
        (True, "off", False, False),
        (False, "keep", False, False),
        (True, "keep", True, False),
    ],
)
def test_for_which_collections_the_target_makes_new_ids(
    groups: list[PartitionGroup], generated: bool, auto_id: str, own_keys: bool, expected: bool
) -> None:
    groups = [
        replace(group, collection=replace(group.collection, generated_ids=generated))
        for group in groups
        if group.collection
    ]
    resolved = [resolve_group(group, RowPolicies("remap" if own_keys else "error")) for group in groups]
    plans = plan_collections(groups, resolved, {}, rename={}, auto_id=auto_id)
    assert {found.target.accepts_new_ids for found in plans} == {expected}


def test_a_collection_behind_an_alias_has_a_name_with_the_fingerprint_of_its_rows(groups: list[PartitionGroup]) -> None:
    plain, aliased = plan(groups, {"news": "n" * 255}), plan(groups, {"news": "n" * 255}, alias={"news": "articles"})
    assert aliased["news"].target.name == "n" * 242 + "_" + plain["news"].fingerprint[:12]
    assert (aliased["news"].alias, aliased["more"]) == ("articles", plain["more"])
    again = plan(groups, {"news": "n" * 255}, alias={"news": "other"})
    assert again["news"].target == aliased["news"].target
    [with_alias] = plan([group for group in groups if group.name == "more"], alias="articles").values()
    assert (with_alias.alias, with_alias.target.name[:5]) == ("articles", "more_")


@pytest.mark.parametrize(
    ("alias", "fault"),
    [
        ("articles", "'articles' can't stand for 2 collections"),
        ({"old": "articles"}, "'old' is not migrated"),
        ({"news": "2021"}, "'2021' is not a valid name"),
        ({"news": ""}, "'' is not a valid name"),
        ({"news": "more"}, "'more' is the name of a collection in the target"),
        ({"news": "a", "more": "a"}, "'a' can't stand for two collections"),
    ],
)
def test_an_alias_that_is_not_possible_is_refused(groups: list[PartitionGroup], alias: Any, fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        plan(groups, alias=alias)


def test_a_collection_that_was_not_resolved_gets_no_alias(groups: list[PartitionGroup]) -> None:
    plans = plan(groups, failed={"more/_default": "damaged"}, alias={"more": "articles"})
    assert (plans["more"].error, plans["more"].alias) == ("damaged", "")
