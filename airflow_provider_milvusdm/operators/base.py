"""What all operators of a migration share."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, AirflowSkipException

from airflow_provider_milvusdm.exceptions import MilvusdmError, VerificationError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.hooks.object_storage import open_import_store, open_url
from airflow_provider_milvusdm.manifests import CollectionPlan, from_json, to_json
from airflow_provider_milvusdm.operators.xcom import Reference, all_values, hand_in, is_reference, pull, pull_all
from airflow_provider_milvusdm.report import FAILED, CollectionReport, Report, render
from airflow_provider_milvusdm.storage.paths import local_path, open_urls_with

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_milvusdm.targets.milvus.load.staging import ImportStore

FAULT = "fault"
REPORT = "report"
RUN = "{{ ti.dag_id }}/{{ run_id }}"
"""Scheduled runs of two DAGs have the same id: each DAG has a folder of its own for what its runs write."""
LABEL_LENGTH = 250
"""Of a map index: Airflow's column has no room for more, and PostgreSQL and MySQL refuse what is longer."""
DIGEST_BYTES = 4

open_urls_with(open_url)


class MigrationOperator(BaseOperator):
    """A step of a migration.

    An error of this package, or a connection that Airflow doesn't know, fails the task at once, for no retry can
    mend it; any other error is retried. Each is left in XCom under ``fault`` so that the steps behind can name it.

    Steps return references to manifests (see :mod:`airflow_provider_milvusdm.operators.xcom`), and take
    references as well as manifests.
    """

    taken = ""
    """Key of the reference that a mapped task was given."""

    @abstractmethod
    def step(self, context: Context) -> Any:
        """Do the step and return references to its manifests."""

    @property
    def subject(self) -> str:
        """What this mapped task is about."""
        return self.task_id

    @property
    def label(self) -> str:
        """Its map index, readable."""
        return cut_label(self.subject)

    @property
    def answers(self) -> str:
        """What its result is an answer to: those behind it take no other."""
        return self.taken

    @property
    def collection_name(self) -> str:
        """The source's name of the collection that this task is about."""
        return ""

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Any = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """As Airflow's; of a mapped task's reference its manifest, so that its map index is readable from the start."""
        if is_reference(content):
            self.taken = content["xcom"]
            return pull(context["ti"], content)
        if isinstance(content, list) and all(map(is_reference, content)):
            return content
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> Any:
        try:
            return self.step(context)
        except (MilvusdmError, AirflowNotFoundException) as error:
            self._leave_fault(context, str(error))
            raise AirflowFailException(str(error)) from None
        except AirflowSkipException:
            raise
        except Exception as error:
            self._leave_fault(context, f"{type(error).__name__}: {error}")
            raise

    def _leave_fault(self, context: Context, fault: str) -> None:
        reference = self.hand_in(context, {"collection": self.collection_name, "fault": fault})
        context["ti"].xcom_push(key=FAULT, value=reference)

    def hand_in(self, context: Context, manifest: Any) -> Reference:
        """A reference to this task's result."""
        return hand_in(context["ti"], manifest, self.collection_name, self.answers)


class MilvusOperator(MigrationOperator):
    """A step that talks to the target.

    :param milvus_conn_id: connection to Milvus 2.x.
    :param dest_host: takes the place of the connection's host.
    :param dest_port: takes the place of the connection's port.
    :param dest_uri: takes the place of host and port; a path is a Milvus Lite file.
    """

    template_fields: Sequence[str] = ("milvus_conn_id", "dest_host", "dest_port", "dest_uri")

    def __init__(
        self,
        *,
        milvus_conn_id: str = MilvusHook.default_conn_name,
        dest_host: str | None = None,
        dest_port: int | str | None = None,
        dest_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.milvus_conn_id = milvus_conn_id
        self.dest_host, self.dest_port, self.dest_uri = dest_host, dest_port, dest_uri

    @property
    def hook(self) -> MilvusHook:
        return MilvusHook(**self.hook_arguments)

    @property
    def hook_arguments(self) -> dict[str, Any]:
        """Arguments of :class:`MilvusHook`; they hold no secrets."""
        return {
            "milvus_conn_id": self.milvus_conn_id,
            "host": self.dest_host or None,
            "port": int(self.dest_port) if self.dest_port else None,
            "uri": self.dest_uri or None,
        }

    def import_store(self) -> ImportStore | None:
        """Where the target reads the files of bulk imports; None where its connection doesn't say."""
        url = self.hook.import_url
        return open_import_store(url) if url else None


class CollectionOperator(MigrationOperator):
    """A step for one collection.

    :param collection: one of the plans of the plan step.
    """

    template_fields: Sequence[str] = ("collection",)

    def __init__(self, *, collection: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.collection = collection

    @property
    def subject(self) -> str:
        return self.collection_name

    @property
    def collection_name(self) -> str:
        return str(self.collection["name"])


class CollectionVerifyOperator(CollectionOperator):
    """Verify one collection, and fail when it is not what was read.

    :param faults: what the tasks that failed left under ``fault``.
    :param changes: what a step that looked at the source again returned; None where it failed.
    """

    template_fields: Sequence[str] = (*CollectionOperator.template_fields, "faults", "changes")

    def __init__(self, *, faults: Sequence[Any] = (), changes: Sequence[Any] | None = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.faults, self.changes = faults, changes

    @abstractmethod
    def report(self, plan: CollectionPlan, changes: Sequence[str], context: Context) -> CollectionReport:
        """Verify and report; faults are reported, not raised.

        ``changes``: what of the source is not as it was when it was inspected.
        """

    def step(self, context: Context) -> Reference:
        changes = [change["fault"] for change in self.results(context, self.changes)]
        if self.changes is None:
            changes.append("nobody looked whether the source changed: see the log of check_source")
        report = self.report(from_json(CollectionPlan, self.collection), changes, context)
        reference = self.hand_in(context, to_json(report))
        context["ti"].xcom_push(key=REPORT, value=reference)
        self.log.info("\n%s", render(Report((report,))))
        if report.status == FAILED:
            raise VerificationError(f"collection {report.collection!r} failed:\n" + "\n".join(report.faults))
        return reference

    def results(self, context: Context, xcoms: Any, of: Container[str] | None = None) -> list[Any]:
        """What mapped tasks handed in about this collection, in answer to one of ``of``."""
        about = [value for value in all_values(xcoms) if _collection_of(value) == self.collection_name]
        return pull_all(context["ti"], about, of)

    def found_faults(self, context: Context, of: Container[str]) -> list[str]:
        """What the tasks said that failed in answer to one of ``of``."""
        return [fault["fault"] for some in self.faults for fault in self.results(context, some, of)]


def _collection_of(result: Mapping[str, Any]) -> Any:
    """Of a reference or a manifest: :class:`CreatedCollection` has it under ``name``."""
    return result.get("collection", result.get("name"))


def run_folder(folder: str, run: str) -> Path:
    """The folder of a run's files below ``folder``; ``run`` is its DAG and its id, as :data:`RUN` renders them."""
    parts = [re.sub(r"[^A-Za-z0-9_.-]|^[.]", "_", part) for part in run.split("/")]
    return Path(local_path(folder)).absolute().joinpath(*parts)


def faults_by_collection(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What tasks that failed left under ``fault``, all of one collection together."""
    faults: dict[str, list[str]] = {}
    for fault in found:
        faults.setdefault(fault["collection"], []).append(fault["fault"])
    return {name: "\n".join(texts) for name, texts in faults.items()}


def cut_label(text: str) -> str:
    """A text as a map index: one too long keeps its beginning and its end, and a digest of all tells it from others."""
    if len(text) <= LABEL_LENGTH:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
    kept = LABEL_LENGTH - len(digest) - 2
    end = kept // 2
    return f"{text[: kept - end]}…{digest}…{text[-end:]}"
