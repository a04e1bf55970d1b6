"""Bulk imports into a real server, from its disk and from S3: exact after any failure."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import s3fs
from airflow.sdk.exceptions import AirflowFailException
from pymilvus import MilvusClient

from airflow_provider_milvusdm.exceptions import (
    ConfigurationError,
    ImportFailedError,
    LateError,
    StalledError,
    TargetError,
)
from airflow_provider_milvusdm.manifests import to_json
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.operators.milvus import MilvusCreateCollectionOperator
from airflow_provider_milvusdm.report import VERIFIED
from airflow_provider_milvusdm.rows.resolve import resolve_group
from airflow_provider_milvusdm.sources.hdf5.segment import Hdf5Options
from airflow_provider_milvusdm.targets.milvus.checkpoint import CheckpointStore
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.load import bulk_import
from airflow_provider_milvusdm.targets.milvus.load.bulk_import import (
    NOTE,
    Waiting,
    load_unit_by,
    remove_leftovers,
    uses_import,
)
from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore, stage_unit
from airflow_provider_milvusdm.targets.milvus.load.writer import load_unit, marked_target
from airflow_provider_milvusdm.targets.milvus.marker import set_marker
from airflow_provider_milvusdm.targets.milvus.server import import_jobs
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import (
    STALLED_SECONDS,
    await_jobs,
    list_jobs,
    start_job,
)
from airflow_provider_milvusdm.targets.milvus.units import address_units
from tests.support.bulk_imports import ASKED, ASKING, STAGED, FileStore, disk, import_unit, importing, load_to_the_end
from tests.support.chain import Chain, GroupsChain, Steps, inspect_directory
from tests.support.collections_2x import called, make_collection, stored, stored_in_all
from tests.support.directories import random_rows, random_vectors, write_directory
from tests.support.hdf5_inputs import inspect as inspect_hdf5
from tests.support.hdf5_inputs import write_hdf5
from tests.support.killed import Checkpoints, WatchedCheckpoints, wake
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus_servers import MilvusOnS3
from tests.support.object_storage import Bucket
from tests.support.peak_memory import peak_memory
from tests.support.rich_directory import PARTITIONS, RENAME, write_rich_directory
from tests.support.seaweedfs import S3Address
from tests.support.targets import drop_all_collections, milvus_client
from tests.support.xcom import XComs

pytestmark = pytest.mark.xdist_group("milvus_on_s3")  # asked for by name, where pytest cannot see it


@dataclass
class Place:
    """A server, and the store from which it reads files."""

    client: MilvusClient
    store: ImportStore

    @property
    def left(self) -> list[str]:
        """Files of imports."""
        self.store.files.invalidate_cache()
        return list(self.store.files.glob(f"{self.store.root}/**/*.npy"))


@dataclass
class Importing:
    """A chain that loads by bulk import."""

    chain: Steps
    place: Place
    method: str = "bulk_import"
    values: dict[int, dict[str, Any]] = field(default_factory=dict)

    def run(self, *arguments: Any, **options: Any) -> Any:
        self.chain.load = self.load  # type: ignore[method-assign]
        return self.chain.run(*arguments, **options)

    def load(self, plans: Any, created: Any) -> list[Any]:
        units = address_units(plans, created)
        return [
            import_unit(
                self.place.client, unit, self.values.setdefault(number, {}), self.place.store, method=self.method
            )
            for number, unit in enumerate(units)
        ]


@pytest.fixture
def on_disk(server_client: MilvusClient, tmp_path: Path) -> Place:
    return Place(server_client, disk(tmp_path / "import"))


@pytest.fixture
def in_s3(milvus_on_s3: MilvusOnS3) -> Iterator[Place]:
    drop_all_collections(milvus_on_s3.uri)
    files = s3fs.S3FileSystem(**milvus_on_s3.s3.options)
    bucket = milvus_on_s3.bucket
    with milvus_client(milvus_on_s3.uri) as client:
        yield Place(client, ImportStore(files, f"{bucket}/import", bucket=len(bucket) + 1))


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    ("place", "names"), [("on_disk", ["news", "hamming"]), ("in_s3", ["hamming"])], indirect=["place"]
)
def test_float_and_binary_collections_are_imported_bit_for_bit_and_no_file_stays(
    place: Place, names: list[str], tmp_path: Path
) -> None:
    directory = write_rich_directory(tmp_path / "milvus")
    rename = {name: target for name, target in RENAME.items() if name.split("/")[0] in names}
    reports = Importing(Chain(directory.path, place.client, id_scope="partition"), place).run(names, rename=rename)
    assert {name: (report.status, report.faults) for name, report in reports.items()} == dict.fromkeys(
        names, (VERIFIED, ())
    )
    for name in names:
        assert stored(place.client, name) == {
            partition: directory.live(name, tag) for tag, partition in PARTITIONS[name].items()
        }
        assert len(list_jobs(place.client, name)) == sum(bool(directory.live(name, tag)) for tag in PARTITIONS[name])
    assert place.left == []


def test_rows_imported_into_a_collection_in_memory_are_counted(on_disk: Place, tmp_path: Path) -> None:
    there = random_rows(range(1000, 1020), 1)
    make_collection(on_disk.client, "news", {"_default": there}, loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(300)}})
    report = Importing(Chain(directory.path, on_disk.client), on_disk).run(mode="append")["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    assert stored(on_disk.client, "news") == {"_default": there | directory.live("news")}
    assert len(list_jobs(on_disk.client, called(on_disk.client, "news"))) == 1


def test_a_server_whose_queue_is_full_is_asked_again(in_s3: Place, tmp_path: Path) -> None:
    partitions = {f"p{number}": range(number + 1) for number in range(4)}
    directory = write_directory(tmp_path / "milvus", {"news": partitions})
    [unit] = created_units(Chain(directory.path, in_s3.client, max_tasks=2, id_scope="partition"))
    values = Checkpoints()
    assert load_unit_by("bulk_import", in_s3.client, unit, values, in_s3.store) == Waiting()
    assert [part["job"] > 0 for part in values[NOTE]["staged"]["partitions"]] == [True, True, False, False]
    assert import_unit(in_s3.client, unit, values, in_s3.store)
    assert stored_in_all(in_s3.client, ["news"])["news"] == {"_default": {}} | {
        tag: directory.live("news", tag) for tag in partitions
    }


def test_a_queue_that_stays_full_is_asked_less_and_less_often_until_an_error(in_s3: Place, tmp_path: Path) -> None:
    partitions = {f"p{number}": range(1) for number in range(10)}
    directory = write_directory(tmp_path / "milvus", {"news": partitions})
    [unit] = created_units(Chain(directory.path, in_s3.client, max_tasks=2, id_scope="partition"))
    values = Checkpoints()

    def load() -> Any:
        return load_unit_by("bulk_import", in_s3.client, unit, values, in_s3.store)

    assert load() == Waiting()
    values[NOTE]["since"] -= 300
    waiting = load()
    assert waiting.jobs == ()
    assert 30 < waiting.seconds < 40
    values[NOTE]["since"] -= STALLED_SECONDS
    with pytest.raises(StalledError, match=r"import of news.* found its queue full all the time.*A retry"):
        load()
    assert load() == Waiting()
    assert import_unit(in_s3.client, unit, values, in_s3.store)


def test_tags_that_become_a_partition_key_are_imported_by_one_job(on_disk: Place, tmp_path: Path) -> None:
    tags = {"_default": range(100), "a": range(100, 150), "新闻 2021": range(200, 230)}
    directory = write_directory(tmp_path / "milvus", {"news": tags})
    chain = Chain(directory.path, on_disk.client, max_tasks=2, partitions="partition_key")
    report = Importing(chain, on_disk).run()["news"]
    assert (report.status, report.faults) == (VERIFIED, ())
    found = on_disk.client.query("news", filter="", output_fields=["id", "partition_tag"], limit=1000)
    assert {row["id"]: row["partition_tag"] for row in found} == {
        row_id: tag for tag, ids in tags.items() for row_id in ids
    }
    assert len(list_jobs(on_disk.client, called(on_disk.client, "news"))) == 1


def created_units(chain: Steps, mode: str = "skip") -> list[LoadUnit]:
    """Create all collections, and return their load units."""
    plans = chain.plan()
    created, faults = chain.create(plans, mode)
    assert not faults
    return address_units(plans, created)


IMPORT_SECONDS = 3
MOMENTS = 15
"""A few more than there are."""


def test_a_unit_killed_at_any_moment_is_finished_by_a_retry(on_disk: Place, tmp_path: Path) -> None:
    names = [f"c{number:02}" for number in range(MOMENTS)]
    directory = write_directory(tmp_path / "milvus", {name: {"_default": range(200)} for name in names})
    units = created_units(Chain(directory.path, on_disk.client))
    values: list[dict[str, Any]] = [{} for _ in units]
    attempts = [
        import_unit(on_disk.client, unit, noted, on_disk.store, moment)
        for moment, (unit, noted) in enumerate(zip(units, values, strict=True), 1)
    ]
    assert attempts.count(None) >= 12  # before and after each of six notes, and of what is seen of the job meanwhile
    for unit, noted in zip(units, values, strict=True):
        assert import_unit(on_disk.client, unit, noted, on_disk.store).rows == {"_default": 200}
    assert stored_in_all(on_disk.client, names) == {name: {"_default": directory.live(name)} for name in names}
    assert on_disk.left == []


@dataclass
class Imported:
    place: Place
    chain: Chain
    unit: LoadUnit
    expected: Mapping[str, Mapping[int, bytes]]

    def load(self, values: dict[str, Any], moment: int = 0) -> dict[str, int] | None:
        loaded = import_unit(self.place.client, self.unit, values, self.place.store, moment)
        return dict(loaded.rows) if loaded else None

    def load_with(self, checkpoints: CheckpointStore) -> dict[str, int]:
        return load_to_the_end("bulk_import", self.place.client, self.unit, checkpoints, self.place.store).rows

    def check_exact(self) -> None:
        assert stored_in_all(self.place.client, ["news"]) == {"news": self.expected}
        assert self.place.left == []


@pytest.fixture
def imported(on_disk: Place, tmp_path: Path) -> Imported:
    """A collection of one unit, and its target."""
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(200)}})
    chain = Chain(directory.path, on_disk.client)
    [unit] = created_units(chain)
    return Imported(on_disk, chain, unit, {"_default": directory.live("news")})


@pytest.mark.parametrize("notes", [STAGED, ASKING, ASKED])
def test_an_import_whose_process_was_killed_is_continued(
    imported: Imported, empty_milvus_server_uri: str, tmp_path: Path, notes: int
) -> None:
    [imported.unit] = created_units(imported.chain, "overwrite")
    noted = FileStore(tmp_path / "noted.json", notes)
    with importing(empty_milvus_server_uri, imported.unit, imported.place.store.root, noted) as process:
        assert process.wait() == -9
    assert len(imported.place.left) == 2
    assert imported.load(noted.values()) == {"_default": 200}
    imported.check_exact()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_imports_whose_processes_were_killed_at_random_moments_are_continued(
    on_disk: Place, empty_milvus_server_uri: str, tmp_path: Path, kills: int
) -> None:
    rows, names = 50_000, [f"c{number:02}" for number in range(kills)]
    directory = write_directory(tmp_path / "milvus", {name: {"_default": range(rows)} for name in names})
    units = created_units(Chain(directory.path, on_disk.client))
    random, ended = np.random.default_rng(kills), []
    for name, unit in zip(names, units, strict=True):
        noted = FileStore(tmp_path / f"{name}.json")
        with importing(empty_milvus_server_uri, unit, on_disk.store.root, noted) as process:
            time.sleep(IMPORT_SECONDS * random.random() ** 3)  # most of what can go wrong does so early
            process.kill()
            ended.append(process.wait())
        loaded = import_unit(on_disk.client, unit, noted.values(), on_disk.store)
        assert loaded
        assert loaded.rows == {"_default": rows}
    assert ended.count(-9) > kills // 2  # others came to their end first
    assert stored_in_all(on_disk.client, names) == {name: {"_default": directory.live(name)} for name in names}
    assert on_disk.left == []


def test_a_failed_job_is_reported_with_its_reason_and_the_retry_upserts(imported: Imported) -> None:
    values: dict[str, Any] = {}
    assert imported.load(values, moment=2 * STAGED) is None
    [vectors] = [Path(path) for path in imported.place.left if path.endswith("embedding.npy")]
    vectors.write_bytes(vectors.read_bytes()[:-1])
    with pytest.raises(ImportFailedError, match=r"Import job \d+ into collection 'news__milvusdm_.* failed\..*EOF"):
        imported.load(values)
    assert imported.load(values) == {"_default": 200}
    imported.check_exact()


def test_files_that_cannot_be_written_are_removed_and_a_retry_writes_them(imported: Imported) -> None:
    values: dict[str, Any] = {}
    with largest_file(1000), pytest.raises(ImportFailedError, match=r"could not be written: .*File too large"):
        imported.load(values)
    assert imported.place.left == []
    assert imported.load(values) == {"_default": 200}
    assert len(list_jobs(imported.place.client, called(imported.place.client, "news"))) == 1
    imported.check_exact()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """This process can't write a larger file: the effect of a full disk or a quota.

    Nor does it write bytecode, which Python would store although it is cut off.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = writes_no_bytecode


def test_writing_files_to_s3_takes_memory_bounded_by_the_batch(seaweedfs: S3Address, tmp_path: Path) -> None:
    bucket = Bucket.make(seaweedfs)
    rows = random_vectors(150_000, 1, 256)
    directory = Milvus1xDirectory(tmp_path / "milvus")
    news = directory.collection("news", dimension=256)
    for number in range(3):
        part = directory.partition(news, f"p{number}")
        directory.segment(part, range(50_000), rows[50_000 * number :][:50_000])
    [unit] = [
        unit for group in inspect_directory(directory.write(), max_tasks=2) for unit in resolve_group(group).units
    ]
    staged, peak = peak_memory(_stage, seaweedfs.options, bucket.name, unit, imports=("s3fs", stage_unit.__module__))
    assert staged == {f"p{number}": 50_000 for number in range(3)}
    assert peak < 100 << 20, peak


def _stage(options: dict[str, Any], root: str, unit: LoadUnit) -> Mapping[str, int]:
    store = ImportStore(s3fs.S3FileSystem(**options), root)
    return stage_unit(unit, TargetCollection("news"), store, f"{root}/staged", lambda done, rows: None).rows


def test_a_job_that_ran_twice_stores_no_row_twice(imported: Imported) -> None:
    values: dict[str, Any] = {}
    assert imported.load(values, moment=2 * ASKED) is None
    start_job(
        imported.place.client,
        called(imported.place.client, "news"),
        "_default",
        values[NOTE]["staged"]["partitions"][0]["files"],
        new_deadline(),
    )
    await_jobs(imported.place.client, called(imported.place.client, "news"))
    assert imported.load(values) == {"_default": 200}
    imported.check_exact()


def test_a_job_that_the_server_has_forgotten_stores_no_row_twice(imported: Imported) -> None:
    values: dict[str, Any] = {}
    assert imported.load(values, moment=2 * ASKED) is None
    values[NOTE]["staged"]["partitions"][0]["job"] += 1
    assert imported.load(values) == {"_default": 200}
    imported.check_exact()


def test_a_new_run_waits_for_the_job_of_the_killed_one_and_upserts(imported: Imported) -> None:
    assert imported.load({}, moment=2 * ASKED) is None
    report = Importing(imported.chain, imported.place).run()["news"]
    assert (report.status, report.action) == (VERIFIED, "resumed")
    assert stored(imported.place.client, "news") == imported.expected
    assert len(list_jobs(imported.place.client, called(imported.place.client, "news"))) == 1
    assert len(imported.place.left) == 2
    [plan] = imported.chain.plan()
    remove_leftovers(imported.place.client, imported.place.store, plan)
    assert imported.place.left == []


def test_a_job_without_progress_is_given_up(imported: Imported, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {}
    assert imported.load(values, moment=2 * ASKED) is None
    with monkeypatch.context() as patch:
        patch.setattr(import_jobs, "POLL_SECONDS", 0.01)
        patch.setattr(import_jobs, "STALLED_SECONDS", 0)
        with pytest.raises(StalledError, match=r"import jobs of collection 'news__milvusdm_.*job \d+ Import\w+ \d+ %"):
            await_jobs(imported.place.client, called(imported.place.client, "news"))
    await_jobs(imported.place.client, called(imported.place.client, "news"))
    assert imported.load(values) == {"_default": 200}
    imported.check_exact()


def test_an_attempt_that_slept_while_it_wrote_its_files_imports_nothing_after_another_has_finished(
    imported: Imported,
) -> None:
    finished: list[Any] = []
    checkpoints = WatchedCheckpoints(1, lambda: finished.append(imported.load_with(checkpoints)))
    with pytest.raises(ImportFailedError, match="Another attempt continues the import"):
        imported.load_with(checkpoints)
    assert finished == [{"_default": 200}]
    assert len(list_jobs(imported.place.client, called(imported.place.client, "news"))) == 1
    imported.check_exact()


@pytest.mark.parametrize("note", [STAGED, ASKING])
def test_an_attempt_that_slept_imports_nothing_once_another_run_has_continued(imported: Imported, note: int) -> None:
    checkpoints = WatchedCheckpoints(note, lambda: created_units(imported.chain))
    with pytest.raises(TargetError, match="another run continues with it"):
        imported.load_with(checkpoints)
    assert list_jobs(imported.place.client, called(imported.place.client, "news")) == []


def test_an_attempt_that_slept_before_its_request_imports_nothing_into_what_another_run_finished(
    on_disk: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run inserts, so the files are still there."""
    make_collection(on_disk.client, "news", {"_default": random_rows(range(1000, 1010), 7)}, metric="L2", loaded=True)
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(200)}})
    chain = Chain(directory.path, on_disk.client)
    [unit] = created_units(chain, "append")

    def sleep(*arguments: Any) -> Any:
        assert chain.run(mode="append")["news"].status == VERIFIED
        wake(monkeypatch)
        return start_job(*arguments)

    monkeypatch.setattr(bulk_import, "start_job", sleep)
    with pytest.raises(LateError, match="was not sent"):
        import_unit(on_disk.client, unit, {}, on_disk.store)
    assert list_jobs(on_disk.client, "news") == []


def test_nothing_is_imported_into_a_verified_collection(imported: Imported) -> None:
    load_unit(imported.place.client, imported.unit, Checkpoints())
    _, marker = marked_target(imported.place.client, imported.unit)
    checkpoints = WatchedCheckpoints(
        STAGED, lambda: set_marker(imported.place.client, called(imported.place.client, "news"), marker.completed())
    )
    assert imported.load_with(checkpoints) == {"_default": 200}
    assert list_jobs(imported.place.client, called(imported.place.client, "news")) == []
    imported.check_exact()


def test_an_import_that_is_cleared_after_its_collection_was_verified_changes_nothing(
    on_disk: Place, tmp_path: Path
) -> None:
    directory = write_directory(tmp_path / "milvus", {"news": {"_default": range(200)}})
    importing = Importing(Chain(directory.path, on_disk.client), on_disk)
    plans = importing.chain.plan()
    created, _ = importing.chain.create(plans)
    loads = importing.load(plans, created)
    assert importing.chain.verify(plans, created, loads)["news"].status == VERIFIED
    assert importing.load(plans, created) == loads
    assert stored(on_disk.client, "news") == {"_default": directory.live("news")}
    assert len(list_jobs(on_disk.client, "news")) == 1


def test_what_a_killed_import_left_is_removed_from_a_folder_of_any_name(imported: Imported, tmp_path: Path) -> None:
    store = disk(tmp_path / "import [1]")
    assert import_unit(imported.place.client, imported.unit, {}, store, moment=2 * STAGED) is None
    [plan] = imported.chain.plan()
    remove_leftovers(imported.place.client, store, plan)
    assert list(Path(store.root).iterdir()) == []


def test_a_run_into_another_database_removes_no_files_of_an_import(imported: Imported, tmp_path: Path) -> None:
    """Of the same rows, into a collection of the same name."""
    store = disk(tmp_path / "import")
    assert import_unit(imported.place.client, imported.unit, {}, store, moment=2 * STAGED) is None
    [plan], left = imported.chain.plan(), list(Path(store.root).iterdir())
    uri = f"http://{imported.place.client._get_connection().server_address}"
    imported.place.client.create_database("tenant")
    try:
        with milvus_client(uri, db_name="tenant") as tenant:
            remove_leftovers(tenant, store, plan)
    finally:
        imported.place.client.drop_database("tenant")
    assert list(Path(store.root).iterdir()) == left != []


def test_what_an_insert_began_is_not_imported(imported: Imported, monkeypatch: pytest.MonkeyPatch) -> None:
    values: dict[str, Any] = {}
    assert import_unit(imported.place.client, imported.unit, values, imported.place.store, 2, "insert") is None
    assert imported.load(values) == {"_default": 200}
    assert list_jobs(imported.place.client, called(imported.place.client, "news")) == []
    imported.check_exact()


def test_a_note_for_a_target_that_was_made_again_is_ignored(imported: Imported) -> None:
    values: dict[str, Any] = {}
    assert imported.load(values, moment=2 * STAGED) is None
    [imported.unit] = created_units(imported.chain, "overwrite")
    assert imported.load(values) == {"_default": 200}
    imported.check_exact()


def test_an_attempt_for_a_target_that_was_made_again_leaves_the_files_of_the_new_import(imported: Imported) -> None:
    values: dict[str, Any] = {}
    [newer] = created_units(imported.chain, "overwrite")
    assert import_unit(imported.place.client, newer, values, imported.place.store, 2 * STAGED) is None
    left = imported.place.left
    with pytest.raises(TargetError, match="is not the one"):
        imported.load(values)
    assert imported.place.left == left != []
    imported.unit = newer
    assert imported.load(values) == {"_default": 200}
    imported.check_exact()


def test_rows_whose_ids_the_target_makes_are_imported_but_not_after_a_doubt(on_disk: Place, tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", {"embeddings": np.ones((50, 8), "f4")})
    chain = GroupsChain([inspect_hdf5(path, options=Hdf5Options(ids="auto"))], on_disk.client)
    [unit] = created_units(chain)
    values: dict[str, Any] = {}
    assert import_unit(on_disk.client, unit, values, on_disk.store)
    values[NOTE]["state"] = "doubt"
    with pytest.raises(TargetError, match="Nobody can tell which rows"):
        import_unit(on_disk.client, unit, values, on_disk.store)
    assert on_disk.client.get_collection_stats(called(on_disk.client, "news"))["row_count"] == 50


@pytest.mark.parametrize("dry_run", [False, True])
def test_overwrite_drops_nothing_where_files_cannot_be_written(
    imported: Imported,
    empty_milvus_server_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dry_run: bool,
) -> None:
    imported.load({})
    extra = {"uri": empty_milvus_server_uri, "import_url": f"file://{tmp_path}/not mounted"}
    monkeypatch.setenv("AIRFLOW_CONN_MILVUS_DEFAULT", json.dumps({"conn_type": "milvus", "extra": extra}))
    [plan] = imported.chain.plan()
    create = MilvusCreateCollectionOperator(
        task_id="create",
        collections=[to_json(plan)],
        mode="overwrite",
        load_method="bulk_import",
        plan_only=dry_run,
    )
    with pytest.raises(AirflowFailException, match=r"imports can't be written and removed: .*not mounted"):
        XComs().run(create)
    imported.check_exact()


def test_a_bucket_that_is_not_there_or_not_ours_is_refused_and_not_made(seaweedfs: S3Address) -> None:
    absent = f"absent-{time.time_ns()}"
    ours = s3fs.S3FileSystem(**seaweedfs.options)
    not_ours = s3fs.S3FileSystem(**seaweedfs.options | {"secret": "wrong"})
    for files, root in [(ours, f"{absent}/import"), (not_ours, f"{Bucket.make(seaweedfs).name}/import")]:
        with pytest.raises(ConfigurationError, match="iles for bulk imports can't be written and removed"):
            ImportStore(files, root).probe(f"{root}/probe")
    ours.invalidate_cache()
    assert absent not in ours.ls("")


def test_a_bucket_is_probed_and_left_as_it_was(seaweedfs: S3Address) -> None:
    bucket = Bucket.make(seaweedfs)
    root = f"{bucket.name}/import"
    ImportStore(bucket.filesystem, root).probe(f"{root}/probe")
    assert bucket.contents() == {}


def test_bulk_import_is_refused_where_the_target_has_none(imported: Imported, lite_client: MilvusClient) -> None:
    for client, store in [(lite_client, imported.place.store), (imported.place.client, None)]:
        with pytest.raises(ConfigurationError, match="Bulk import is not possible"):
            uses_import(client, "bulk_import", store)
        assert not uses_import(client, "auto", store)
    assert uses_import(imported.place.client, "auto", imported.place.store)
