"""A migration as a user of Airflow's UI does it, in a real browser, on a real Airflow."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Dialog, FrameLocator, Locator, Page, expect

from airflow_provider_milvusdm.cli.sample import write_sample
from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.browser import migration_tab, screenshot
from tests.support.directories import write_directory
from tests.support.targets import drop_all_collections

DAG_ID = "milvusdm_m2m"
OTHER = """
from airflow.sdk import dag, task


@dag()
def unrelated():
    @task
    def hello():
        return 1

    hello()


unrelated()
"""
ASKED = """
from airflow_provider_milvusdm.migration import migration_dag

dag = migration_dag("asked", max_active_runs=8)
"""
"""Its runs do not wait for each other."""
HOSTILE_TAG = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


def add_connection(page: Page, airflow: StandaloneAirflow, name: str, fields: dict[str, str]) -> None:
    """Fill in the form of a connection, and save it."""
    page.goto(f"{airflow.url}/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill(name)
    form.get_by_label("Connection Type").fill("milvus")
    page.get_by_role("option", name="Milvus").click()
    for label, value in fields.items():
        form.get_by_label(label, exact=True).fill(value)
    screenshot(page, f"connection-{name}")
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="hidden")


def press_test(page: Page, name: str) -> Locator:
    """Press the Test button of a connection; what Airflow says."""
    page.get_by_role("row").filter(has_text=name).get_by_role("button", name="Test Connection").click()
    answer = page.get_by_role("region", name="Notifications").get_by_role("status").filter(has_text="Test Connection")
    answer.first.wait_for()
    screenshot(page, f"connection-{name}-tested")
    return answer.first


@pytest.fixture(scope="module")
def started(airflow: StandaloneAirflow, folder: Path) -> dict[str, str]:
    """Ids of runs that go on while the first tests use the browser, by what is done with them."""
    airflow.add_dags("asked", ASKED)
    airflow.add_dags("unrelated", OTHER)
    good = write_directory(folder / "good", {"news": {"_default": range(20)}})
    damaged = write_directory(folder / "damaged", {"news": {HOSTILE_TAG: range(50)}, "whole": {"_default": range(50)}})
    damaged_file(folder).write_bytes(b"too short")
    confs = {
        "fail": {"source_milvus_path": str(damaged.path), "dry_run": True},
        "Approve": {"source_milvus_path": str(good.path), "approval": True},
        "Reject": {"source_milvus_path": str(good.path), "approval": True},
    }
    runs = {
        name: airflow.trigger("asked", conf | {"dest_uri": str(folder / f"{name}.db")}) for name, conf in confs.items()
    }
    return runs | {"unrelated": airflow.trigger("unrelated", {})}


def damaged_file(folder: Path) -> Path:
    [ids] = [path for path in folder.glob("damaged/db/tables/*/*/*.uid") if "whole" not in path.parts]
    return ids


@pytest.fixture(scope="module")
def connection(
    page: Page, airflow: StandaloneAirflow, milvus_server_uri: str, started: dict[str, str]
) -> dict[str, str]:
    """The fields of `milvus_default`, made in the form."""
    drop_all_collections(milvus_server_uri)
    url = urlsplit(milvus_server_uri)
    fields = {"Host": str(url.hostname), "Port": str(url.port)}
    add_connection(page, airflow, "milvus_default", fields)
    return fields


def test_a_connection_is_made_in_the_form_and_tested(
    page: Page, airflow: StandaloneAirflow, connection: dict[str, str]
) -> None:
    expect(press_test(page, "milvus_default")).to_contain_text("Milvus v2.3.5-lite, database default")


def test_a_wrong_database_and_a_wrong_host_are_named(
    page: Page, airflow: StandaloneAirflow, connection: dict[str, str]
) -> None:
    add_connection(page, airflow, "wrong_database", connection | {"Database": "nowhere"})
    expect(press_test(page, "wrong_database")).to_contain_text("There is no database 'nowhere'")
    add_connection(page, airflow, "wrong_host", connection | {"Host": "nowhere.invalid"})
    expect(press_test(page, "wrong_host")).to_contain_text("There is no host 'nowhere.invalid'")


def test_a_run_is_triggered_in_the_form_watched_to_its_end_and_archived(
    page: Page, airflow: StandaloneAirflow, connection: dict[str, str], folder: Path
) -> None:
    write_sample(folder / "sample")
    airflow.wait_for_dag(DAG_ID)
    page.goto(f"{airflow.url}/dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    source = form.get_by_role("group").filter(has_text="Milvus 1.x data directory").get_by_role("textbox")
    source.fill(str(folder / "sample"))
    screenshot(page, "trigger-form")
    with page.expect_response(lambda response: response.request.method == "POST" and "dagRuns" in response.url) as made:
        form.get_by_role("button", name="Trigger", exact=True).click()
    run_id = made.value.json()["dag_run_id"]

    tab = migration_tab(page, airflow.url, DAG_ID, run_id)
    expect(tab.locator("#headline h1")).to_contain_text("Milvus 1.x → Milvus 2.x")
    expect(tab.locator("#headline .chip")).to_have_text("success")
    expect(tab.locator("#totals")).to_contain_text("3,495 compared bit for bit")
    tab.get_by_role("button", name="articles").click()
    expect(tab.locator("tr.details")).to_contain_text("→ _2021_03_news")
    expect(tab.locator("tr.details")).to_contain_text("all 2,896 rows counted, and compared bit for bit")
    screenshot(page, "migration-page")

    files = {form: downloaded(page, tab, form, folder) for form in ("HTML", "CSV", "JSON")}
    record = json.loads(files["JSON"].read_text())
    assert (record["run"]["run_id"], record["run"]["source"]) == (run_id, str(folder / "sample"))
    assert record["totals"]["statuses"] == {"verified": 2}
    with files["CSV"].open(newline="") as file:
        tags = {(line["collection"], line["partition"]): line["verified"] for line in csv.DictReader(file)}
    assert tags["articles", "2021-03 news"] == "399"
    page.goto(files["HTML"].as_uri())
    expect(page.locator("h1")).to_contain_text("success")
    screenshot(page, "report")


def downloaded(page: Page, tab: FrameLocator, form: str, folder: Path) -> Path:
    with page.expect_download() as download:
        tab.get_by_role("link", name=form).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_why_a_run_failed_is_on_the_first_screen_and_names_are_text(
    page: Page, airflow: StandaloneAirflow, started: dict[str, str], folder: Path
) -> None:
    alerts: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    tab = migration_tab(page, airflow.url, "asked", started["fail"])
    expect(tab.locator("#headline .chip")).to_have_text("failed")
    fault = tab.get_by_role("list", name="Faults").get_by_role("listitem").filter(has_text="news")
    expect(fault).to_contain_text(damaged_file(folder).name)
    expect(fault).to_be_in_viewport(ratio=1)
    screenshot(page, "failed-run")
    tab.get_by_role("button", name="news").click()
    expect(tab.locator("tr.details")).to_contain_text(HOSTILE_TAG)
    screenshot(page, "failed-run-details")
    assert tab.locator("img").count() == 0
    assert not alerts


def test_one_plan_is_approved_and_another_refused(
    page: Page, airflow: StandaloneAirflow, started: dict[str, str]
) -> None:
    ends = {
        "Approve": ("success", "20 compared bit for bit"),
        "Reject": ("failed", "refused the plan. Nothing in the target was changed."),
    }
    for option in ends:
        answer_plan(page, airflow, started[option], option)
    for option, (state, shown) in ends.items():
        tab = migration_tab(page, airflow.url, "asked", started[option])
        expect(tab.locator("#headline .chip")).to_have_text(state)
        expect(tab.locator("#migration")).to_contain_text(shown)
        screenshot(page, f"after-{option.lower()}")


def answer_plan(page: Page, airflow: StandaloneAirflow, run_id: str, option: str) -> None:
    """See on the Migration page that the run waits, and press the button on the page of its task."""
    airflow.wait_for_question("asked", run_id, "approve_plan")
    tab = migration_tab(page, airflow.url, "asked", run_id)
    expect(tab.locator("#work")).to_contain_text("awaiting input")
    screenshot(page, f"waits-for-{option.lower()}")
    page.goto(f"{airflow.url}/dags/asked/runs/{quote(run_id, safe='')}/tasks/approve_plan/required_actions")
    expect(page.get_by_text("1 collection created: 20 rows to load")).to_be_visible()
    with page.expect_response(lambda response: response.request.method == "PATCH" and response.ok):
        page.get_by_role("button", name=option, exact=True).click()


def test_a_run_of_another_dag_has_nothing_to_show(
    page: Page, airflow: StandaloneAirflow, started: dict[str, str]
) -> None:
    tab = migration_tab(page, airflow.url, "unrelated", started["unrelated"])
    expect(tab.get_by_role("heading", name="No migration in this run")).to_be_visible()
