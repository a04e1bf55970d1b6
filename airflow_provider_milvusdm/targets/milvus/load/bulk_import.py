"""Load a unit by bulk import; an import that is killed at any point can be retried exactly.

files staged → jobs requested → jobs completed → files removed. A note is stored before and after each step. A job is
requested once. Where it can't be known whether its rows were stored (it failed, or the server does not know it), all
rows of the unit are upserted instead, which is right in both cases.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.exceptions import ConfigurationError, ImportFailedError
from airflow_provider_milvusdm.manifests import CollectionPlan, Loaded, from_json, to_json
from airflow_provider_milvusdm.model.collections import TargetCollection
from airflow_provider_milvusdm.model.units import LoadUnit
from airflow_provider_milvusdm.progress import Meter
from airflow_provider_milvusdm.targets.milvus.checkpoint import Checkpoint, CheckpointStore, last_checkpoint
from airflow_provider_milvusdm.targets.milvus.fence import new_deadline
from airflow_provider_milvusdm.targets.milvus.load.staging import (
    ImportStore,
    StagedPartition,
    StagedUnit,
    stage_unit,
)
from airflow_provider_milvusdm.targets.milvus.load.writer import is_published, load_rest, load_unit, marked_target
from airflow_provider_milvusdm.targets.milvus.marker import Marker
from airflow_provider_milvusdm.targets.milvus.server.capabilities import (
    accepts_ids_with_auto_id,
    has_bulk_imports,
    product_name,
)
from airflow_provider_milvusdm.targets.milvus.server.denied import is_denial
from airflow_provider_milvusdm.targets.milvus.server.import_jobs import (
    POLL_SECONDS,
    STALLED_SECONDS,
    ImportJob,
    describe,
    list_jobs,
    read_job,
    start_job,
)
from airflow_provider_milvusdm.targets.milvus.server.waiting import pause_after, stalled

if TYPE_CHECKING:
    from pymilvus import MilvusClient

NOTE = "bulk_import"
STAGING, STAGED, DOUBT, DONE = "staging", "staged", "doubt", "done"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Waiting:
    """What the unit waits for: ``jobs``, or without any, a free place in the server's queue."""

    jobs: tuple[int, ...] = ()
    seconds: float = POLL_SECONDS
    """Seconds until the server should be asked again."""


@dataclass(frozen=True)
class Note:
    """How far the import of a unit got; valid only for the same unit and the same generation of the target."""

    unit: str
    generation: str
    folder: str
    started: float
    """Seconds since 1970."""
    state: str = STAGING
    staged: StagedUnit = field(default_factory=StagedUnit)
    seconds: float = 0
    """Duration of the whole import, once it is done."""
    found: str = ""
    """What it waits for, as text that changes with any progress."""
    since: float = 0
    """When ``found`` was first seen, in seconds since 1970."""

    def loaded(self, unit: LoadUnit) -> Loaded:
        """What was imported of the unit, once it is done."""
        return Loaded(unit.collection.name, dict(self.staged.rows), self.seconds, unit.digest)


def uses_import(client: MilvusClient, load_method: str, store: ImportStore | None) -> bool:
    """Whether units are loaded by bulk import. Raises ConfigurationError where that is required and impossible."""
    possible = store is not None and has_bulk_imports(client)
    if load_method == "bulk_import" and not possible:
        raise ConfigurationError(
            "bulk import is not possible with this target",
            expected="a Milvus 2.x server, and import_url in the connection: where the server reads files from",
            found="a connection without import_url" if has_bulk_imports(client) else product_name(client),
            cure="Set import_url, or load_method to insert.",
        )
    return possible and load_method != "insert"


def check_import(client: MilvusClient, load_method: str, store: ImportStore | None, plan: CollectionPlan) -> None:
    """Raises ConfigurationError where files for bulk imports can't be written; the target is not changed."""
    if uses_import(client, load_method, store):
        _checked(store).probe(_new_folder(client, store, plan.fingerprint))


def load_unit_by(
    load_method: str, client: MilvusClient, unit: LoadUnit, checkpoints: CheckpointStore, store: ImportStore | None
) -> Loaded | Waiting:
    """Load ``unit`` by ``load_method``, or continue what an earlier attempt began, by the method it used.

    Nothing is done if an earlier attempt loaded everything, and the collection was published since.

    Where it returns :class:`Waiting`, call it again later. Raises TargetError, ConfigurationError, ImportFailedError or
    StalledError.
    """
    checkpoint = last_checkpoint(unit, checkpoints)
    noted = checkpoints.get(NOTE)
    note = _last_note(checkpoint, noted)
    if (loaded := _loaded_before(unit, checkpoint, note)) and is_published(client, unit):
        log.info("%s: loaded by an earlier attempt, and verified since: nothing is loaded again", unit.label)
        return loaded
    target, marker = marked_target(client, unit)
    if note is None:
        _remove_files(noted, store)
        if not uses_import(client, load_method, store) or _needs_requests(client, unit, target, marker, checkpoint):
            return load_rest(client, unit, checkpoints, target, marker, checkpoint)
        note = Note(checkpoint.unit, marker.generation, _new_folder(client, store, unit.migration), time.time())
    return _Import(client, unit, target, checkpoints, _checked(store), note, noted).run()


def _loaded_before(unit: LoadUnit, checkpoint: Checkpoint, note: Note | None) -> Loaded | None:
    """What an earlier attempt loaded, if it loaded everything."""
    if checkpoint.done == unit.stored_rows:
        return Loaded(unit.collection.name, checkpoint.rows, 0, unit.digest)
    return note.loaded(unit) if note and note.state == DONE else None


def _needs_requests(
    client: MilvusClient, unit: LoadUnit, target: TargetCollection, marker: Marker, checkpoint: Checkpoint
) -> bool:
    """Whether an import could store rows that exist a second time, or give them other ids."""
    if unit.upsert or not marker.is_loading or checkpoint.intended:
        log.info("%s: not imported, because the target may hold some of these rows already", unit.label)
        return True
    if target.accepts_new_ids and accepts_ids_with_auto_id(client):
        log.info("%s: not imported, because the target also makes ids", unit.label)
        return True
    return False


def _new_folder(client: MilvusClient, store: ImportStore | None, migration: str) -> str:
    return f"{_folder_prefix(client, _checked(store), migration)}{secrets.token_hex(8)}"


def _folder_prefix(client: MilvusClient, store: ImportStore, migration: str) -> str:
    """How the folders of a migration into this database begin: runs into others may be using theirs."""
    database = f"{client._get_connection().server_address}\0{client._generate_call_context().get_db_name()}"
    digest = hashlib.blake2b(f"{migration}\0{database}".encode(), digest_size=16).hexdigest()
    return f"{store.root}/milvusdm-{digest}-"


def remove_leftovers(client: MilvusClient, store: ImportStore, plan: CollectionPlan) -> None:
    """Remove the files of imports that killed tasks left behind, once the collection is finished."""
    for folder in store.files.glob(f"{glob.escape(_folder_prefix(client, store, plan.fingerprint))}*"):
        store.remove(folder)


def _checked(store: ImportStore | None) -> ImportStore:
    if store is None:
        raise ConfigurationError(
            "a bulk import was begun, but the connection no longer has an import_url",
            cure="Set it again: the files of the import are there.",
        )
    return store


def _last_note(checkpoint: Checkpoint, noted: Any) -> Note | None:
    """The note of an earlier attempt, if it is valid."""
    note = from_json(Note, noted) if noted else None
    return note if note and (note.unit, note.generation) == (checkpoint.unit, checkpoint.generation) else None


def _remove_files(noted: Any, store: ImportStore | None) -> None:
    """Remove the files of an earlier import into another target; not before it is known that this one is the newest."""
    if noted and store:
        store.remove(from_json(Note, noted).folder)


class _Import:
    """The import of one unit."""

    def __init__(
        self,
        client: MilvusClient,
        unit: LoadUnit,
        target: TargetCollection,
        checkpoints: CheckpointStore,
        store: ImportStore,
        note: Note,
        noted: Any,
    ) -> None:
        self.client, self.unit, self.target = client, unit, target
        self.checkpoints, self.store, self.note = checkpoints, store, note
        self.noted = noted

    @property
    def partitions(self) -> tuple[StagedPartition, ...]:
        return self.note.staged.partitions

    def run(self) -> Loaded | Waiting:
        if self.note.state == STAGING:
            self._stage()
        if self.note.state == STAGED and (waiting := self._import()):
            return waiting
        if self.note.state == DOUBT:
            return self._upsert()
        self.store.remove(self.note.folder)
        return self.note.loaded(self.unit)

    def _stage(self) -> None:
        """Write the files, always into a new folder: an earlier attempt may be suspended and continue later."""
        self.store.remove(self.note.folder)
        self._note(folder=_new_folder(self.client, self.store, self.unit.migration))
        self.store.probe(self.note.folder)
        meter = Meter(
            f"files of {self.unit.label}",
            self.unit.stored_rows,
            self.unit.collection.vector_bytes,
            collection=self.unit.collection.name,
            step="write files",
        )
        try:
            staged = stage_unit(self.unit, self.target, self.store, self.note.folder, lambda done, _: meter.reach(done))
            self._note(state=STAGED, staged=staged)
        except Exception:
            self.store.remove(self.note.folder)
            raise

    def _import(self) -> Waiting | None:
        """Request the jobs and check their states; returns None once the result is known."""
        for place, part in enumerate(self.partitions):
            if not part.job and not self._ask(place, part):
                return None if self.note.state == DOUBT else self._wait(())
        jobs = [read_job(self.client, self.target.name, part.job) for part in self.partitions]
        if running := [job for job in jobs if job and job.is_running]:
            return self._wait(running)
        self._decide(jobs)
        return None

    def _ask(self, place: int, part: StagedPartition) -> bool:
        """Make sure that there is a job for a partition; False where the server's queue is full, or nobody can tell."""
        if part.asked:
            found = self._jobs_of(part)
            job = found[0].number if found else None
            if job is None:
                self._doubt(f"no job is known for the files of partition {part.partition!r}")
                return False
        else:
            job = self._start(place, part)
            if job is None:
                return False
        log.info("%s: import job %d for partition %s", self.unit.label, job, part.partition)
        self._note_part(place, replace(part, asked=True, job=job))
        return True

    def _start(self, place: int, part: StagedPartition) -> int | None:
        """Request a new job; None where the server's queue is full, or everything is loaded without it.

        The marker is read just before: this attempt may have been suspended while it wrote the files. The deadline
        stops an attempt that is suspended after that.
        """
        from pymilvus import MilvusException

        self._note_part(place, replace(part, asked=True))
        deadline = new_deadline()
        if not marked_target(self.client, self.unit)[1].is_loading:
            self._doubt("the collection is complete already")
            return None
        try:
            job = start_job(self.client, self.target.name, part.partition, part.files, deadline)
        except MilvusException as error:
            if is_denial(error):
                self._note_part(place, part)
            raise
        if job is None:
            self._note_part(place, part)
        return job

    def _jobs_of(self, part: StagedPartition) -> list[ImportJob]:
        return [job for job in list_jobs(self.client, self.target.name) if job.files == part.files]

    def _decide(self, jobs: Sequence[ImportJob | None]) -> None:
        """All jobs have ended: the state becomes DONE or DOUBT. Raises ImportFailedError where a job failed."""
        for part, job in zip(self.partitions, jobs, strict=True):
            if job is None:
                self._doubt(f"the server does not know job {part.job} any more")
            elif job.failed:
                self._doubt(f"job {job.number} failed")
                self.store.remove(self.note.folder)
                raise ImportFailedError(
                    f"import job {job.number} into collection {self.target.name!r}, partition {part.partition!r} "
                    "failed",
                    found=job.reason or "no reason",
                    cure="A retry upserts these rows.",
                )
            elif len(self._jobs_of(part)) > 1:
                self._doubt(f"the server took the request for job {job.number} more than once")
        if self.note.state == STAGED:
            self._note(state=DONE, seconds=time.time() - self.note.started)

    def _doubt(self, reason: str) -> None:
        log.warning("%s: %s: all rows of the unit will be upserted", self.unit.label, reason)
        self._note(state=DOUBT)

    def _upsert(self) -> Loaded | Waiting:
        """Upsert all rows, once no job can store them any more.

        A request for a job that is still on its way does no harm once the files are removed.
        """
        self.store.remove(self.note.folder)
        own = {part.files for part in self.partitions}
        jobs = list_jobs(self.client, self.target.name)
        if running := [job for job in jobs if job.is_running and (not job.files or job.files in own)]:
            return self._wait(running)
        return load_unit(self.client, replace(self.unit, upsert=True), self.checkpoints)

    def _wait(self, running: Sequence[ImportJob]) -> Waiting:
        """Wait for these jobs, or without any for a free place in the queue, with growing pauses.

        Raises StalledError where there is no progress.
        """
        now, found = time.time(), describe(running) or "its queue full"
        if found != self.note.found:
            self._note(found=found, since=now)
        waited = now - self.note.since
        if waited > STALLED_SECONDS:
            self._note(found="")
            raise stalled(f"the import of {self.unit.label}", STALLED_SECONDS, found)
        return Waiting(tuple(job.number for job in running), pause_after(waited, POLL_SECONDS))

    def _note_part(self, place: int, part: StagedPartition) -> None:
        partitions = (*self.partitions[:place], part, *self.partitions[place + 1 :])
        self._note(staged=replace(self.note.staged, partitions=partitions))

    def _note(self, **changes: object) -> None:
        if self.checkpoints.get(NOTE) != self.noted:
            raise ImportFailedError(f"another attempt continues the import of {self.unit.label}, so this one stops")
        self.note = replace(self.note, **changes)  # type: ignore[arg-type]
        self.noted = to_json(self.note)
        self.checkpoints.set(NOTE, self.noted)
