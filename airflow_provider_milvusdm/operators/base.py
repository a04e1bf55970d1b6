"""The base classes of all operators: a step, a step for one collection, and the verification of one."""

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
from airflow_provider_milvusdm.hooks.object_storage import open_url
from airflow_provider_milvusdm.manifests import CollectionPlan, Fault, from_json, to_json
from airflow_provider_milvusdm.operators.xcom import Reference, is_reference, list_values, pull, pull_all, push_result
from airflow_provider_milvusdm.report import FAILED, LOG_WIDTH, CollectionReport, Report, render
from airflow_provider_milvusdm.storage.paths import local_path, open_urls_with

if TYPE_CHECKING:
    from airflow.sdk import Context

FAULT = "fault"
"""XCom key of the :class:`Fault` of a task that failed."""
REPORT = "report"
"""XCom key of a :class:`CollectionReport`, and of the :class:`Report` of the run."""
RUN = "{{ ti.dag_id }}/{{ run_id }}"
"""Template of a run's DAG and id; the id alone is not unique, because scheduled runs of two DAGs have the same."""
LABEL_LENGTH = 250
"""Of a map index: Airflow's column takes no more characters, and PostgreSQL and MySQL refuse a longer text."""
DIGEST_BYTES = 4


class MigrationOperator(BaseOperator):
    """A step of a migration.

    A MilvusdmError, or a connection that Airflow doesn't know, fails the task without a retry; any other
    error is retried. Each is pushed to XCom under ``fault``, where later steps find it.

    Steps return references to manifests (see :mod:`airflow_provider_milvusdm.operators.xcom`), and take
    references as well as manifests.
    """

    input_key = ""
    """Key of the reference that a mapped task was given."""

    @abstractmethod
    def step(self, context: Context) -> Any:
        """Do the step and return references to its manifests."""

    @property
    def subject(self) -> str:
        """What this mapped task works on, for people to read."""
        return self.task_id

    @property
    def label(self) -> str:
        """The map index: the subject, as long as Airflow allows."""
        return cut_label(self.subject)

    @property
    def input_id(self) -> str:
        """Identifies the input of the task; later steps ignore a result of any other input."""
        return self.input_key

    @property
    def collection_name(self) -> str:
        """The source's name of the collection that this task works on."""
        return ""

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Any = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Pull the manifest of a reference before the map index is rendered, which is made of the manifest."""
        if is_reference(content):
            self.input_key = content["xcom"]
            return pull(context["ti"], content)
        if isinstance(content, list) and all(map(is_reference, content)):
            return content
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> Any:
        open_urls_with(open_url)
        try:
            return self.step(context)
        except (MilvusdmError, AirflowNotFoundException) as error:
            self._push_fault(context, str(error))
            raise AirflowFailException(str(error)) from None
        except AirflowSkipException:
            raise
        except Exception as error:
            self._push_fault(context, f"{type(error).__name__}: {error}")
            raise

    def _push_fault(self, context: Context, fault: str) -> None:
        reference = self.push_result(context, to_json(Fault(self.collection_name, fault)))
        context["ti"].xcom_push(key=FAULT, value=reference)

    def push_result(self, context: Context, manifest: Any) -> Reference:
        """Push this task's result, and return its reference."""
        return push_result(context["ti"], manifest, self.collection_name, self.input_id)


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
    """Verify one collection, and fail if it differs from the source.

    :param faults: what failed tasks left under ``fault``, a list for each step.
    :param changes: what the step returned that inspected the source again; None if that step failed.
    """

    template_fields: Sequence[str] = (*CollectionOperator.template_fields, "faults", "changes")

    def __init__(self, *, faults: Sequence[Any] = (), changes: Sequence[Any] | None = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.faults, self.changes = faults, changes

    @abstractmethod
    def report(self, plan: CollectionPlan, changes: Sequence[str], context: Context) -> CollectionReport:
        """Verify, and return the report; faults are in the report and not raised.

        ``changes``: how the source differs from what was inspected.
        """

    def step(self, context: Context) -> Reference:
        changes = [from_json(Fault, change).fault for change in self.results(context, self.changes)]
        if self.changes is None:
            changes.append("it is unknown whether the source changed: see the log of check_source")
        report = self.report(from_json(CollectionPlan, self.collection), changes, context)
        reference = self.push_result(context, to_json(report))
        context["ti"].xcom_push(key=REPORT, value=reference)
        self.log.info("\n%s", render(Report((report,)), LOG_WIDTH))
        if report.status == FAILED:
            raise VerificationError(f"collection {report.collection!r} failed:\n" + "\n".join(report.faults))
        return reference

    def results(self, context: Context, values: Any, of: Container[str] | None = None) -> list[Any]:
        """What mapped tasks returned for this collection; with ``of`` only the results of these inputs."""
        of_collection = [value for value in list_values(values) if _collection_of(value) == self.collection_name]
        return pull_all(context["ti"], of_collection, of)

    def step_faults(self, context: Context, of: Container[str]) -> list[str]:
        """The faults of tasks that failed for this collection and one of these inputs."""
        faults = (fault for of_step in self.faults for fault in self.results(context, of_step, of))
        return [from_json(Fault, fault).fault for fault in faults]


def _collection_of(result: Mapping[str, Any]) -> Any:
    """The collection of a reference or a manifest; :class:`CreatedCollection` has it under ``name``."""
    return result.get("collection", result.get("name"))


def run_folder(folder: str, run: str) -> Path:
    """The folder of a run's files in ``folder``; ``run`` is its DAG and id, as :data:`RUN` renders them."""
    parts = [re.sub(r"[^A-Za-z0-9_.-]|^[.]", "_", part) for part in run.split("/")]
    return Path(local_path(folder)).absolute().joinpath(*parts)


def faults_by_collection(faults: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The faults of tasks that failed; those of one collection are joined."""
    texts: dict[str, list[str]] = {}
    for fault in (from_json(Fault, values) for values in faults):
        texts.setdefault(fault.collection, []).append(fault.fault)
    return {collection: "\n".join(lines) for collection, lines in texts.items()}


def cut_label(text: str) -> str:
    """A text as a map index; one that is too long becomes its beginning, a digest of all of it, and its end."""
    if len(text) <= LABEL_LENGTH:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
    kept = LABEL_LENGTH - len(digest) - 2
    end = kept // 2
    return f"{text[: kept - end]}…{digest}…{text[-end:]}"
