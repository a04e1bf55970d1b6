"""What the Migration page shows, of what a run has left in Airflow."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_milvusdm.manifests import Loaded, to_json
from airflow_provider_milvusdm.operators.group import RESULT
from airflow_provider_milvusdm.operators.overview import OVERVIEW
from airflow_provider_milvusdm.report import FAILED, UNFINISHED, CollectionReport, PartitionReport
from airflow_provider_milvusdm.ui.gather import gather, list_migrations
from airflow_provider_milvusdm.ui.page_data import LARGEST_PAGE, LISTED_FAULTS, LISTED_PARTITIONS, PageData, Wanted
from airflow_provider_milvusdm.ui.read_record import read_record
from tests.support.stored_runs import STARTED, FakeStoredRun, add_fault, add_load, add_report, planned_run, verified


def shown(run: FakeStoredRun, prefix: str = "", **wanted: Any) -> dict[str, Any]:
    return PageData(gather(run, run.tasks(), prefix), run.state).as_json(Wanted(**wanted))  # type: ignore[arg-type]


def statuses(run: FakeStoredRun) -> dict[str, str]:
    return {row["name"]: row["status"] for row in shown(run)["collections"]["rows"]}


def test_each_collection_has_its_rows_and_its_status_while_the_run_goes() -> None:
    run = planned_run({"waiting": 10, "loading": 20, "loaded": 30, "verified": 40})
    add_load(run, "loading", 5, 0)
    add_load(run, "loaded", 30, 1)
    add_report(run, verified("verified", 40))
    page = shown(run)
    numbers = {row["name"]: (row["live"], row["loaded"], row["verified"]) for row in page["collections"]["rows"]}
    assert numbers == {"waiting": (10, 0, 0), "loading": (20, 5, 0), "loaded": (30, 30, 0), "verified": (40, 40, 40)}
    assert statuses(run) == {"loading": "loading", "loaded": "loading", "waiting": "waiting", "verified": "verified"}
    totals = page["totals"]
    assert [totals[name] for name in ("collections", "live", "loaded", "verified")] == [4, 100, 75, 40]


def test_a_running_task_is_shown_by_what_it_noted() -> None:
    run = planned_run({"news": 100, "more": 50})
    run.add_task("load_partitions", "running", map_index=0)
    run.add_task("verify_counts", "running", map_index=0)
    run.states["load_partitions", 0] = {"work": [["news", "load", 60, 101]], "spans": [[0.0, 10.0, 60]]}
    run.states["verify_counts", 0] = {"work": [["more", "verify", 20, 50]], "spans": []}
    rows = {row["name"]: row for row in shown(run)["collections"]["rows"]}
    assert (rows["news"]["status"], rows["news"]["loaded"]) == ("loading", 60)
    assert (rows["more"]["status"], rows["more"]["verified"]) == ("verifying", 20)


def test_partitions_that_exchange_their_names_have_their_own_rows() -> None:
    run = planned_run({"news": 0})
    parts = [PartitionReport("a", "b", 5, 0, 0), PartitionReport("b", "a", 7, 0, 0)]
    run.push("plan", OVERVIEW, [to_json(CollectionReport("news", "news", UNFINISHED, partitions=tuple(parts)))])
    run.add_task("load_partitions", "success", map_index=0)
    run.push_group("load_partitions", RESULT, [Loaded("news", {"b": 5, "a": 7}, 1.0, "unit")])
    [row] = shown(run, opened=(0,))["collections"]["rows"]
    assert [(part["partition"], part["loaded"]) for part in row["details"]["partitions"]] == [("a", 5), ("b", 7)]


@pytest.mark.parametrize("state", ["", "queued", "skipped", "upstream_failed"])
def test_a_cleared_task_that_has_not_run_again_has_verified_nothing(state: str) -> None:
    """Airflow deletes its XComs only once it starts."""
    run = planned_run({"news": 10})
    add_report(run, verified("news", 10), state=state)
    assert statuses(run) == {"news": "waiting"}
    run.state = "failed"
    [report] = read_record(run, gather(run, run.tasks())).collections  # type: ignore[arg-type]
    assert report.status == FAILED


@pytest.mark.parametrize("state", ["", "scheduled", "queued", "skipped", "upstream_failed"])
def test_faults_of_cleared_tasks_are_not_those_of_the_run(state: str) -> None:
    run = planned_run({"news": 10, "more": 10})
    add_fault(run, "load_partitions", "news", "the server is away", state=state)
    add_fault(run, "report", "", "1 of 2 collections failed", state=state)
    assert statuses(run) == {"news": "waiting", "more": "waiting"}
    assert shown(run)["faults"] == {"count": 0, "listed": []}
    assert read_record(run, gather(run, run.tasks())).faults == ()  # type: ignore[arg-type]


@pytest.mark.parametrize("state", ["", "queued"])
def test_what_a_cleared_plan_refused_is_not_refused_any_more(state: str) -> None:
    run = planned_run({"news": 10})
    run.pushed["plan", -1, OVERVIEW][0] |= {"faults": ["a file is too short"]}
    assert statuses(run) == {"news": "failed"}
    run.instances[:] = [replace(task, state=state) if task.task_id == "plan" else task for task in run.instances]
    run.push("inspect_source", OVERVIEW, [to_json(CollectionReport("news", status=UNFINISHED))])
    assert statuses(run) == {"news": "waiting"}


@pytest.mark.parametrize("state", ["", "queued", "running"])
def test_what_a_task_noted_before_it_was_cleared_is_not_its_progress(state: str) -> None:
    """Airflow keeps its task state; the number of tries that it may take shows that it was cleared."""
    run = planned_run({"news": 100})
    for task_id, step in (("load_partitions", "load"), ("verify_counts", "verify")):
        run.add_task(task_id, state, map_index=0, max_tries=4)
        run.states[task_id, 0] = {"work": [["news", step, 90, 100]], "spans": [[0.0, 10.0, 90]], "max_tries": 3}
    page = shown(run)
    assert statuses(run) == {"news": "waiting"}
    assert (page["totals"]["loaded"], page["totals"]["verified"], page["speed"]) == (0, 0, None)
    run.states["load_partitions", 0] |= {"max_tries": 4}
    assert shown(run)["totals"]["loaded"] == 90


def test_what_a_task_noted_before_it_ended_is_not_counted_twice() -> None:
    run = planned_run({"news": 100})
    add_load(run, "news", 100)
    began = STARTED.timestamp() + 60
    run.state, run.states["load_partitions", 0] = (
        "success",
        {
            "work": [["news", "load", 60, 100]],
            "spans": [[began, began + 4, 60]],
        },
    )
    page = shown(run)
    assert page["collections"]["rows"][0]["loaded"] == 100
    assert sum(page["speed"]["loaded"]) * page["speed"]["seconds"] == pytest.approx(100, rel=0.1)


def test_the_target_is_the_one_in_which_the_collections_were_verified() -> None:
    """Somebody edited the connection, and cleared the run from a later task than the first."""
    run = planned_run({"news": 40}, address="http://a:19530, database default")
    assert shown(run)["target"] == "Milvus v2.6.0"
    add_report(run, verified("news", 40, address="http://a:19530, database default"))
    assert shown(run)["target"] == "Milvus v2.6.0"
    add_report(run, verified("news", 40, address="http://b:19530, database default"))
    assert shown(run)["target"] == "http://b:19530, database default"
    assert read_record(run, gather(run, run.tasks())).run.target == "http://b:19530, database default"  # type: ignore[arg-type]


def test_results_for_an_earlier_plan_are_ignored() -> None:
    run = planned_run({"news": 100})
    add_load(run, "news", 100)
    run.push("plan", "return_value", [{"task": "plan", "xcom": "of the plan task's next try"}])
    assert shown(run)["totals"]["loaded"] == 0


def test_failed_collections_are_listed_first_with_their_faults() -> None:
    run = planned_run({"good": 10, "refused": 10, "lost": 10})
    add_fault(run, "create_collection", "refused", "The target does not fit. Use another name.")
    add_report(run, verified("good", 10), verified("lost", 10, status=FAILED, faults=("3 rows are missing",)))
    page = shown(run)
    assert [row["name"] for row in page["collections"]["rows"]] == ["refused", "lost", "good"]
    listed = [(fault["collection"], fault["text"]) for fault in page["faults"]["listed"]]
    assert listed == [("refused", "The target does not fit. Use another name."), ("lost", "3 rows are missing")]
    assert page["totals"]["statuses"] == {"failed": 2, "verified": 1}


def test_a_collection_that_could_not_be_resolved_has_the_partitions_of_the_catalog() -> None:
    run = planned_run({"good": 10, "damaged": 0})
    plans = run.pushed["plan", -1, OVERVIEW]
    plans[1] |= {"partitions": [], "faults": ["a file is too short"]}
    shares = [("a", 1), ("b", 4), ("a", 2), ("b", 0)]
    parts = [PartitionReport(tag, "", live, 0, 0) for tag, live in shares]
    inspected = [CollectionReport("damaged", status=UNFINISHED, partitions=(part,)) for part in parts]
    run.push("inspect_source", OVERVIEW, [to_json(report) for report in inspected])
    rows = {row["name"]: row for row in shown(run, opened=(1,))["collections"]["rows"]}
    assert (rows["damaged"]["status"], rows["damaged"]["live"]) == ("failed", 7)
    assert [part["partition"] for part in rows["damaged"]["details"]["partitions"]] == ["a", "b"]


def test_what_was_loaded_of_a_collection_that_failed_is_counted() -> None:
    run = planned_run({"news": 100})
    add_load(run, "news", 60)
    report = verified("news", 100, status=FAILED, partitions=(), faults=("1 of 2 load units were not loaded",))
    add_report(run, report, state="failed")
    run.state = "failed"
    assert shown(run)["totals"]["loaded"] == 60
    [found] = read_record(run, gather(run, run.tasks())).collections  # type: ignore[arg-type]
    assert [part.loaded for part in found.partitions] == [60]


def test_a_fault_that_is_retried_is_no_failure() -> None:
    run = planned_run({"news": 10})
    add_fault(run, "load_partitions", "news", "the server is away", state="up_for_retry")
    assert statuses(run) == {"news": "retrying"}
    assert shown(run)["faults"]["listed"][0]["is_retried"]


def test_a_run_that_failed_before_it_read_the_source_says_why() -> None:
    run = FakeStoredRun(state="failed")
    run.add_task("inspect_source", "failed", map_index=0, operator="Milvus1xInspectOperator")
    add_fault(run, "inspect_source", "", "No Milvus 1.x catalog: /nowhere")
    add_fault(run, "report", "", "nothing was migrated: inspect_source failed. No Milvus 1.x catalog: /nowhere")
    page = shown(run)
    assert page["faults"] == {
        "count": 1,
        "listed": [
            {
                "step": "inspect_source",
                "collection": "",
                "text": "No Milvus 1.x catalog: /nowhere",
                "is_retried": False,
            }
        ],
    }
    assert page["collections"]["rows"] == []


def test_a_task_that_was_killed_is_named_though_it_left_no_fault() -> None:
    run = planned_run({"news": 10})
    run.add_task("load_partitions", "failed", map_index=3)
    assert [(task["task"], task["map_index"]) for task in shown(run)["tasks"]["silent"]] == [("load_partitions", 3)]


def test_what_was_not_verified_when_the_run_ended_is_not_taken_for_finished() -> None:
    run = planned_run({"news": 10})
    add_load(run, "news", 10)
    run.state = "failed"
    assert statuses(run) == {"news": "stopped"}


def test_thousands_of_collections_are_answered_in_pages() -> None:
    names = [f"c{number:04}" for number in range(3000)]
    run = planned_run(dict.fromkeys(names, 10))
    add_report(run, *(verified(name, 10) for name in names[:2900]))
    for number, name in enumerate(names[2900:]):
        run.push_group("create_collection", "fault", [], number)
        run.add_task("create_collection", "failed", map_index=number)
        fault = {"collection": name, "fault": "refused", "unit": ""}
        run.pushed["create_collection", number, f"create_collection fault {number}"] = [fault]
    page = shown(run, limit=10_000)
    assert len(page["collections"]["rows"]) == LARGEST_PAGE
    assert page["collections"]["matching"] == page["totals"]["collections"] == 3000
    assert (page["faults"]["count"], len(page["faults"]["listed"])) == (100, LISTED_FAULTS)
    assert len(json.dumps(page)) < 100_000
    last = shown(run, offset=2999)["collections"]["rows"]
    assert [row["name"] for row in last] == ["c2899"]
    beyond = shown(run, status="failed", offset=2950)["collections"]
    assert (beyond["offset"], beyond["matching"], len(beyond["rows"])) == (50, 100, 50)
    assert [row["name"] for row in shown(run, search="C0042")["collections"]["rows"]] == ["c0042"]
    assert shown(run, status="failed")["collections"]["matching"] == 100


def test_only_opened_collections_have_their_partitions_and_not_more_than_fit() -> None:
    run = planned_run({"news": 10, "more": 10})
    parts = tuple(PartitionReport(f"p{number}", f"p{number}", 1, 0, 0, 1, counted=1) for number in range(4096))
    add_report(run, verified("news", 10, partitions=parts), verified("more", 10))
    rows = {row["name"]: row for row in shown(run, opened=(0,))["collections"]["rows"]}
    assert "details" not in rows["more"]
    assert rows["news"]["partitions"] == 4096
    assert len(rows["news"]["details"]["partitions"]) == LISTED_PARTITIONS


def test_task_groups_are_migrations_of_their_own() -> None:
    run = planned_run({"news": 10}, prefix="first.")
    other = planned_run({"more": 20}, prefix="second.")
    run.instances += other.instances
    run.pushed |= other.pushed
    assert list_migrations(run.tasks()) == ["first.", "second."]
    assert [row["name"] for row in shown(run, "first.")["collections"]["rows"]] == ["news"]
    assert [row["name"] for row in shown(run, "second.")["collections"]["rows"]] == ["more"]


def test_a_migration_beside_a_task_group_has_no_faults_of_the_group() -> None:
    run, group = planned_run({"news": 10}), planned_run({"news": 10}, prefix="second.")
    add_report(run, verified("news", 10))
    add_fault(group, "verify_counts", "news", "3 rows are missing")
    run.instances += group.instances
    run.pushed |= group.pushed
    assert list_migrations(run.tasks()) == ["", "second."]
    assert shown(run)["totals"]["statuses"] == {"verified": 1}
    assert shown(run)["faults"]["count"] == 0
    assert shown(run, "second.")["totals"]["statuses"] == {"failed": 1}


def test_a_run_of_another_dag_has_no_migration() -> None:
    run = FakeStoredRun()
    run.add_task("inspect_source", "success", operator="PythonOperator")
    assert list_migrations(run.tasks()) == []


def test_steps_count_their_tasks() -> None:
    run = planned_run({"news": 10})
    for number, state in enumerate(["success", "running", "queued", "failed", "upstream_failed", "skipped"]):
        run.add_task("load_partitions", state, map_index=number)
    [load] = [step for step in shown(run)["steps"] if step["task"] == "load_partitions"]
    assert load == {"task": "load_partitions", "done": 1, "working": 1, "waiting": 1, "failed": 1, "skipped": 2}
