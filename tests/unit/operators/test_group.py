"""Groups of members: each has its own result or fault, and a retry repeats only what is not done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Barrier, Lock
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_provider_milvusdm.exceptions import StalledError, TargetError, TransientError
from airflow_provider_milvusdm.manifests import CollectionPlan, CreatedCollection, Fault, to_json
from airflow_provider_milvusdm.model.actions import Action
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.operators import done
from airflow_provider_milvusdm.operators.base import FAULT
from airflow_provider_milvusdm.operators.done import SharedStore
from airflow_provider_milvusdm.operators.group import (
    RESULT,
    GroupOperator,
    MemberStep,
    Pending,
    join_faults,
    push_groups,
)
from airflow_provider_milvusdm.storage import paths
from tests.support.killed import KilledError
from tests.support.peak_memory import Store
from tests.support.xcom import TaskInstance, XComs


@dataclass
class Work:
    """What is done with each collection, and how often it was."""

    steps: dict[str, Callable[[], Any]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    waits: int = 0

    def run(self, plan: CollectionPlan, store: Any) -> Any:
        self.begun.append(plan.name)
        return self.steps.get(plan.name, lambda: CreatedCollection(plan.name, Action.CREATED))()


class Create(GroupOperator):
    template_fields = ("collections",)
    member_type = CollectionPlan

    def __init__(self, *, collections: Any, work: Work, at_once: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collections, self.work, self.at_once = collections, work, at_once

    @property
    def group(self) -> Any:
        return self.collections

    @contextmanager
    def prepared(self, context: Any) -> Iterator[MemberStep]:
        self.work.steps.get("", lambda: None)()
        yield MemberStep(self.work.run, self.at_once)

    def wait(self, pending: Any) -> None:
        self.work.waits += 1


@dataclass
class Group:
    """A task for collections of these names, in an XCom in memory."""

    names: list[str]
    at_once: int = 1
    work: Work = field(default_factory=Work)
    xcoms: XComs = field(default_factory=XComs)
    reference: Any = None
    retries: int = 3

    def __post_init__(self) -> None:
        self.push()

    def push(self) -> None:
        plans = [CollectionPlan(name, TargetCollection(name)) for name in self.names]
        [self.reference] = push_groups(TaskInstance(self.xcoms, "plan"), plans)

    def run(self, try_number: int = 1, max_tries: int = 3) -> list[str]:
        """The names of the results."""
        arguments: dict[str, Any] = {"collections": self.reference, "work": self.work, "at_once": self.at_once}
        self.xcoms.run(Create(task_id="create", retries=self.retries, **arguments), try_number, max_tries=max_tries)
        return self.results()

    def results(self) -> list[str]:
        return [result["name"] for result in self.pushed(RESULT)]

    def faults(self) -> dict[str, str]:
        return {fault["collection"]: fault["fault"] for fault in self.pushed(FAULT)}

    def pushed(self, key: str) -> list[Any]:
        create = Create(task_id="create", collections=[], work=self.work)
        return self.xcoms.manifests(*self.xcoms.given(create, -1, "create", key))


def raising(error: BaseException) -> Callable[[], Any]:
    def step() -> Any:
        raise error

    return step


STALLED, REFUSED = StalledError("no progress"), TargetError("does not fit")
at_once = pytest.mark.parametrize("at_once", [1, 4])


@at_once
def test_a_fault_of_one_member_does_not_stop_the_others(at_once: int) -> None:
    group = Group(["a", "b", "c"], at_once)
    group.work.steps["b"] = raising(REFUSED)
    with pytest.raises(AirflowFailException, match="1 of 3 failed: b"):
        group.run()
    assert (group.results(), group.faults()) == (["a", "c"], {"b": "Does not fit."})


@at_once
def test_a_retry_repeats_only_what_another_attempt_may_do_better(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(done, "WRITE_SECONDS", -1)
    group = Group(["a", "b", "c", "d"], at_once)
    group.work.steps |= {"b": raising(REFUSED), "c": raising(STALLED), "d": raising(OSError("cut off"))}
    with pytest.raises(TransientError, match="3 of 4 failed: b, c, d"):
        group.run()
    assert group.faults() == {"b": "Does not fit.", "c": "StalledError: No progress.", "d": "OSError: cut off"}

    group.work.begun.clear()
    del group.work.steps["c"]
    with pytest.raises(TransientError, match="2 of 4 failed: b, d"):
        group.run(2)
    assert sorted(group.work.begun) == ["c", "d"]
    assert group.results() == ["a", "c"]

    group.work.begun.clear()
    del group.work.steps["d"]
    with pytest.raises(AirflowFailException, match="1 of 4 failed: b"):
        group.run(3)
    assert group.work.begun == ["d"]
    assert (group.results(), group.faults()) == (["a", "c", "d"], {"b": "Does not fit."})


def test_a_retry_after_a_kill_repeats_only_what_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(done, "WRITE_SECONDS", -1)
    group = Group(["a", "b", "c"])
    group.work.steps["c"] = raising(KilledError())
    with pytest.raises(KilledError):
        group.run()
    assert group.pushed(RESULT) == []
    del group.work.steps["c"]
    assert group.run(2) == ["a", "b", "c"]
    assert group.work.begun == ["a", "b", "c", "c"]


def test_a_task_that_is_cleared_or_has_another_input_repeats_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(done, "WRITE_SECONDS", -1)
    group = Group(["a", "b"])
    assert group.run() == ["a", "b"]
    group.push()
    assert group.run(2) == ["a", "b"]
    assert group.work.begun == ["a", "b"] * 2
    assert group.run(3, max_tries=5) == ["a", "b"]  # Airflow counts on, and adds the retries to the limit
    assert group.work.begun == ["a", "b"] * 3


def test_a_task_that_is_cleared_repeats_everything_if_its_dag_gets_more_retries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow clears with the retries of the DAG that it knows; the task has those of the file by then."""
    monkeypatch.setattr(done, "WRITE_SECONDS", -1)
    group = Group(["a", "b"], retries=5)
    group.run(1, max_tries=3)
    group.run(2, max_tries=4)
    assert group.work.begun == ["a", "b"] * 2


def test_what_fails_before_any_member_is_a_fault_of_each() -> None:
    group = Group(["a", "b"])
    group.work.steps[""] = raising(REFUSED)
    with pytest.raises(AirflowFailException, match="2 of 2 failed"):
        group.run()
    assert group.faults() == {"a": "Does not fit.", "b": "Does not fit."}


def test_the_error_of_a_single_member_is_the_task_s() -> None:
    group = Group(["a"])
    group.work.steps["a"] = raising(STALLED)
    with pytest.raises(StalledError):
        group.run()
    group.work.steps["a"] = raising(REFUSED)
    with pytest.raises(AirflowFailException, match="Does not fit"):
        group.run(2)


def test_a_group_with_nothing_to_do_is_skipped() -> None:
    group = Group(["a", "b"])
    group.work.steps |= {"a": lambda: None, "b": lambda: None}
    with pytest.raises(AirflowSkipException):
        group.run()


def test_members_wait_at_the_same_time() -> None:
    group = Group(["a", "b", "c", "d"], at_once=4)
    barrier = Barrier(4)

    def meet() -> None:
        barrier.wait(60)

    group.work.steps |= dict.fromkeys(group.names, meet)
    with pytest.raises(AirflowSkipException):
        group.run()
    assert not barrier.broken


def test_pending_members_are_asked_again_until_they_are_done() -> None:
    group = Group(["a", "b"])
    answers = [Pending("import"), Pending("import"), CreatedCollection("b", Action.CREATED)]
    group.work.steps["b"] = lambda: answers.pop(0)
    assert group.run() == ["a", "b"]
    assert (group.work.begun, group.work.waits) == (["a", "b", "b", "b"], 2)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["news"], "news"),
        (["news", "faces", "sports"], "news … sports (3 collections)"),
    ],
)
def test_a_label_tells_the_first_and_the_last(names: list[str], label: str) -> None:
    plans = [to_json(CollectionPlan(name, TargetCollection(name))) for name in names]
    assert Create(task_id="create", collections=plans, work=Work()).label == label


def test_a_long_label_is_cut() -> None:
    plans = [to_json(CollectionPlan(name * 200, TargetCollection(name))) for name in "abc"]
    label = Create(task_id="create", collections=plans, work=Work()).label
    assert len(label) == 250
    assert label.startswith("aaa")
    assert label.endswith("ccc (3 collections)")


def test_collections_with_an_error_are_a_group_of_their_own() -> None:
    xcoms = XComs()
    errors = {"a": "", "b": "damaged", "c": ""}
    plans = [CollectionPlan(name, TargetCollection(name), error=error) for name, error in errors.items()]
    groups = push_groups(TaskInstance(xcoms, "plan"), plans)
    assert [[plan["name"] for plan in xcoms.manifests(group)] for group in groups] == [["a", "c"], ["b"]]


def test_a_task_whose_dag_has_fewer_retries_now_keeps_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow keeps the limit that a task had when its run began."""
    monkeypatch.setattr(done, "WRITE_SECONDS", -1)
    group = Group(["a", "b"])
    group.work.steps["b"] = raising(STALLED)
    for attempt in (1, 2):
        with pytest.raises(TransientError):
            group.run(attempt, max_tries=6)
    assert group.results() == ["a"]


def test_members_ask_airflow_one_after_another_for_task_state_and_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow's client in a process of `dag.test()` mixes up the answers to two threads."""
    group, asking = Group(["a", "b", "c", "d"], at_once=4), Lock()

    def ask(*_: str) -> tuple[None, str]:
        assert asking.acquire(blocking=False), "two requests at the same time"
        time.sleep(0.01)
        asking.release()
        return None, ""

    class Asked(Store):
        def get(self, key: str, default: Any = None) -> Any:
            ask()
            return super().get(key, default)

    def work(plan: CollectionPlan, store: SharedStore) -> CreatedCollection:
        store.get("checkpoint")
        paths._open_url("s3://lake@bucket/milvus")
        return CreatedCollection(plan.name, Action.CREATED)

    monkeypatch.setattr(paths, "_open_url", paths._open_url)
    monkeypatch.setattr("airflow_provider_milvusdm.operators.group.open_url", ask)
    monkeypatch.setattr(group.work, "run", work)
    group.xcoms.stores["create", -1] = Asked()
    assert sorted(group.run()) == ["a", "b", "c", "d"]


def test_a_deferral_does_not_repeat_what_failed_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else members whose imports stall one after another would be waited for without end."""
    group = Group(["a", "b"])
    answers = [Pending("import"), CreatedCollection("b", Action.CREATED)]
    group.work.steps |= {"a": raising(STALLED), "b": lambda: answers.pop(0)}
    monkeypatch.setattr(Create, "wait", lambda _, __: raising(KilledError())())
    with pytest.raises(KilledError):
        group.run()
    with pytest.raises(TransientError, match="1 of 2 failed: a"):
        group.run()
    assert (group.work.begun, group.results()) == (["a", "b", "b"], ["b"])
    assert group.faults() == {"a": "StalledError: No progress."}

    del group.work.steps["a"]
    assert group.run(2) == ["a", "b"]
    assert group.work.begun == ["a", "b", "b", "a"]


def test_task_state_does_not_grow_with_the_number_of_waits() -> None:
    group = Group(["a", "b"])
    answers = [*[Pending("import")] * 20, CreatedCollection("b", Action.CREATED)]
    group.work.steps |= {"a": raising(STALLED), "b": lambda: answers.pop(0)}
    with pytest.raises(TransientError):
        group.run()
    assert group.work.waits == 20
    assert len(group.xcoms.stores["create", -1]) == 2


def test_of_many_faults_of_a_collection_the_first_are_joined() -> None:
    faults = [to_json(Fault("news", f"fault {number}")) for number in range(30)]
    lines = join_faults(faults)["news"].split("\n")
    assert lines[:20] == [f"fault {number}" for number in range(20)]
    assert lines[20:] == ["and 10 more faults: the logs of the tasks that failed have them"]
