"""What a run would do is said before it does it, whatever an interrupted run left in the target."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.manifests import CreatedCollection
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.operators.milvus import foresee
from airflow_provider_milvusdm.targets.milvus import fence
from airflow_provider_milvusdm.targets.milvus.runs import Run, SingleRun
from tests.support.chain import Chain
from tests.support.collections_2x import insert, make_collection, stored
from tests.support.directories import random_rows, write_directory
from tests.support.killed import Fuse, FusedClient, KilledError

IDS = {"_default": range(20), "a": range(100, 110)}
OLD = {"_default": random_rows(range(50, 60), 7), "a": random_rows(range(200, 204), 7)}
MODES = ("overwrite", "skip")


class OwnRun(SingleRun):
    """One run of Airflow, whose attempts know each other."""

    own = Run("move", "manual")


def create(chain: Chain, mode: str, selection: Any = "*", **options: Any) -> CreatedCollection:
    [created], faults = chain.create(chain.plan(selection), mode, **options)
    assert faults == {}
    return created


def drop_all(client: MilvusClient) -> None:
    for name in client.list_collections():
        client.drop_collection(name)


def action_of(client: MilvusClient) -> str:
    """That of the marker of `news`; empty without one."""
    marked = client.describe_collection("news")["properties"].get("milvusdm.migration", "{}")
    return str(json.loads(marked).get("action", ""))


def interrupt(chain: Chain, action: str, *arguments: Any, **options: Any) -> None:
    """Kill the create step in the middle of an action."""
    client = chain.client
    for moment in range(1, 60):
        chain.client = FusedClient(client, Fuse(moment))  # type: ignore[assignment]
        with suppress(KilledError):
            create(chain, *arguments, **options)
        chain.client = client
        if action_of(client) == action:
            return
    pytest.fail(f"the step was never killed in {action}")


@pytest.mark.parametrize("mode", MODES)
def test_what_follows_a_killed_publish_is_foreseen(lite_client: MilvusClient, tmp_path: Path, mode: str) -> None:
    killed = 0
    for moment in range(1, 40):
        make_collection(lite_client, "news", OLD, loaded=True)
        chain = Chain(write_directory(tmp_path / f"milvus-{moment}", {"news": IDS}).path, lite_client)
        plans = chain.plan()
        created, _ = chain.create(plans, "overwrite")
        loaded = chain.load(plans, created)
        chain.client = FusedClient(lite_client, Fuse(moment))  # type: ignore[assignment]
        try:
            chain.verify(plans, created, loaded)
        except KilledError:
            killed += 1
        else:
            break
        chain.client = lite_client
        foreseen, done = (create(chain, mode, plan_only=plan_only) for plan_only in (True, False))
        assert foreseen.action is done.action, moment
        if done.action is Action.OVERWRITTEN:
            assert foreseen.lost in (sum(map(len, OLD.values())), sum(map(len, IDS.values())))
        drop_all(lite_client)
    assert killed >= 5


def test_a_resumed_run_that_goes_on_emptying_says_what_is_lost(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", OLD, loaded=True)
    chain = Chain(write_directory(tmp_path / "milvus", {"news": IDS}).path, lite_client)
    interrupt(chain, "emptying", "overwrite", {"news": ["a"]})
    assert len(stored(lite_client, "news")["a"]) == len(OLD["a"])
    foreseen = create(chain, "skip", {"news": ["a"]}, plan_only=True)
    assert (foreseen.action, foreseen.lost) == (Action.RESUMED, len(OLD["a"]))
    create(chain, "skip", {"news": ["a"]})
    assert stored(lite_client, "news")["a"] == {}


def test_a_resumed_sync_says_what_is_deleted(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", OLD, loaded=True)
    chain = Chain(write_directory(tmp_path / "milvus", {"news": IDS}).path, lite_client)
    interrupt(chain, "synced", "sync", max_deletions=1)
    rows = sum(map(len, stored(lite_client, "news").values()))
    foreseen = create(chain, "append", plan_only=True, max_deletions=1)
    assert (foreseen.action, foreseen.lost) == (Action.RESUMED, rows)


def test_vectors_that_a_sync_replaces_are_lost(lite_client: MilvusClient, tmp_path: Path) -> None:
    make_collection(lite_client, "news", {"_default": random_rows(range(20), 7)}, loaded=True)
    chain = Chain(write_directory(tmp_path / "milvus", {"news": {"_default": range(15)}}).path, lite_client)
    assert create(chain, "sync", plan_only=True, max_deletions=1).lost == 20


def test_a_sync_replaces_and_deletes_no_more_than_was_approved(lite_client: MilvusClient, tmp_path: Path) -> None:
    """An application writes to the collection while it is looked at for the second time."""
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(20)}})
    rows = {"_default": directory.live("news")}
    make_collection(lite_client, "news", rows, loaded=True)
    chain = Chain(directory.path, lite_client)
    approved = create(chain, "sync", plan_only=True).lost
    added = random_rows(range(50, 52), 7)
    insert(lite_client, "news", "_default", added)
    _, faults = chain.create(chain.plan(), "sync", approved_loss=approved, max_deletions=1)
    assert "was changed after its sync was approved. Expected 0 rows" in faults["news"][0]
    assert stored(lite_client, "news")["_default"] == rows["_default"] | added
    assert create(chain, "sync", approved_loss=len(added), max_deletions=1).action is Action.SYNCED
    assert stored(lite_client, "news") == rows


@pytest.mark.parametrize(
    ("selection", "in_place"),
    [({"news": ["a"]}, False), ("*", True), ("*", False)],
    ids=["partitions", "in_place", "swap"],
)
def test_an_overwrite_drops_no_more_than_was_approved(
    lite_client: MilvusClient, tmp_path: Path, selection: Any, in_place: bool
) -> None:
    """An application writes to the collection after its rows were counted for the second time."""
    make_collection(lite_client, "news", OLD, loaded=True)
    chain = Chain(write_directory(tmp_path / "milvus", {"news": IDS}).path, lite_client)
    approved = create(chain, "overwrite", selection, plan_only=True, in_place=in_place).lost
    added = random_rows(range(300, 302), 7)
    insert(lite_client, "news", "a", added)
    options = {"approved_loss": approved, "is_approved": True, "in_place": in_place}
    _, faults = chain.create(chain.plan(selection), "overwrite", **options)
    assert f"Expected {approved} rows to drop, found {approved + 2}" in faults["news"][0]
    assert lite_client.list_collections() == ["news"]
    assert stored(lite_client, "news") == OLD | {"a": OLD["a"] | added}
    assert create(chain, "overwrite", selection, **options | {"approved_loss": approved + 2}).name == "news"


class MayWake(SingleRun):
    """Whoever was at work before may wake up, so there is a wait until no request of theirs can arrive."""

    def may_wake(self, run: Run) -> bool:
        return True


@pytest.mark.parametrize("partitions", ["keep", "partition_key"])
def test_an_overwrite_that_waited_drops_no_more_than_was_approved(
    lite_client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: str
) -> None:
    """An application writes to the partition while the step waits for requests of a run that was interrupted."""
    ids: dict[str, Any] = {"a": range(100, 110), "b": range(5)}
    chain = Chain(write_directory(tmp_path / "milvus", {"news": ids}).path, lite_client, partitions=partitions)
    chain.run()
    interrupt(chain, "emptying", "overwrite", {"news": ["a"]})
    marked = lite_client.describe_collection("news")["properties"]
    row = {"id": 300, "embedding": [0.0] * 8}
    waited = []

    def wait(_: float) -> None:
        of_key = partitions == "partition_key"
        where, tag = ({}, {"partition_tag": "a"}) if of_key else ({"partition_name": "a"}, {})
        waited.append(lite_client.insert("news", [row | tag], **where))

    monkeypatch.setattr(fence, "time", SimpleNamespace(sleep=wait))
    approved = create(chain, "overwrite", {"news": ["a"]}, plan_only=True).lost
    options = {"approved_loss": approved, "is_approved": True, "runs": MayWake()}
    _, faults = chain.create(chain.plan({"news": ["a"]}), "overwrite", **options)
    assert len(waited) == 1
    assert f"Expected {approved} rows to drop, found {(approved or 0) + 1}" in faults["news"][0]
    assert lite_client.describe_collection("news")["properties"] == marked
    assert lite_client.query("news", ids=[300], output_fields=["id"])


@pytest.mark.parametrize(
    ("mode", "selection"), [("overwrite", {"news": ["a", "b"]}), ("sync", "*")], ids=["overwrite", "sync"]
)
def test_what_an_interrupted_attempt_left_is_covered_by_its_approval(
    lite_client: MilvusClient, tmp_path: Path, mode: str, selection: Any
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"a": range(100, 110), "b": range(4)}})
    rows_left = set()
    for moment in range(1, 40):
        make_collection(lite_client, "news", {"a": random_rows(range(200, 204), 7), "b": OLD["_default"]}, loaded=True)
        chain = Chain(directory.path, lite_client)
        [plan], options = chain.plan(selection), {"runs": OwnRun(), "max_deletions": 1}
        approved, killed = foresee(plan, create(chain, mode, selection, plan_only=True, **options)), False
        assert approved.lost == 14
        chain.client = FusedClient(lite_client, Fuse(moment))  # type: ignore[assignment]
        try:
            create(chain, mode, selection, **options)
        except KilledError:
            killed = True
        chain.client = lite_client
        rest = foresee(plan, create(chain, mode, selection, plan_only=True, **options))
        assert approved.covers(rest), (moment, rest)
        assert not approved.covers(replace(rest, has_begun=False)) or rest.lost in (0, 14)
        drop_all(lite_client)
        if not killed:
            break
        rows_left.add(rest.lost)
    assert rows_left > {0, 14}
