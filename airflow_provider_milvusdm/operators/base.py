"""The base class of all operators: a step of a migration."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.hooks.object_storage import open_url
from airflow_provider_milvusdm.manifests import Fault, to_json
from airflow_provider_milvusdm.operators.edits import refuse_edits
from airflow_provider_milvusdm.operators.runs import tell_queue
from airflow_provider_milvusdm.operators.xcom import is_reference, push_group
from airflow_provider_milvusdm.storage.paths import local_path, open_urls_with

if TYPE_CHECKING:
    from airflow.sdk import Context

FAULT = "fault"
"""XCom key of the :class:`Fault` manifests of a task that failed."""
REPORT = "report"
"""XCom key of the :class:`Report` of the run."""
RUN = "{{ ti.dag_id }}/{{ run_id }}"
"""Template of a run's DAG and id; the id alone is not unique, because scheduled runs of two DAGs have the same."""
LABEL_LENGTH = 250
"""Of a map index: Airflow's column takes no more characters, and PostgreSQL and MySQL refuse a longer text."""
DIGEST_BYTES = 4
NAME_BYTES = 255
"""Of a file or a folder: file systems take no more; a DAG's id has up to 250 characters of up to 4 bytes."""
PARAMS = {"plan_only": "dry_run"}
"""The params that are arguments of operators under another name."""
FINAL = (MilvusdmError, AirflowNotFoundException)
"""Errors after which no retry can help."""


class MigrationOperator(BaseOperator):
    """A step of a migration.

    A MilvusdmError, or a connection that Airflow doesn't know, fails the task without a retry; any other
    error is retried. Each is pushed to XCom under ``fault``, where later steps find it.

    Steps return references to groups of manifests (see :mod:`airflow_provider_milvusdm.operators.xcom`), and take
    references as well as groups.

    :param first_task: id of the task that checked the params and the target of the run; this one fails if those that it
        uses have changed since, unless it was cleared. Empty: nothing is compared.
    """

    def __init__(self, *, first_task: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.first_task = first_task

    @property
    def address(self) -> str:
        """That of the Milvus 2.x that the step uses; empty if it uses none."""
        return ""

    @abstractmethod
    def step(self, context: Context) -> Any:
        """Do the step and return references to its manifests."""

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: Any = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """References are no templates, and large lists of them are not searched for any."""
        if is_reference(content) or (isinstance(content, list) and all(map(is_reference, content))):
            return content
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> Any:
        return self.explained(context, self.step)

    def explained(self, context: Context, step: Callable[[Context], Any]) -> Any:
        """What ``step`` returns; its errors are pushed, and the final ones fail the task without a retry."""
        open_urls_with(open_url)
        try:
            self.refuse_edits(context)
            return step(context)
        except (AirflowSkipException, DownstreamTasksSkipped):
            raise
        except Exception as error:
            push_fault(context["ti"], describe(error))
            if isinstance(error, FINAL):
                raise AirflowFailException(str(error)) from None
            tell_queue(context)
            raise

    def list_tries(self, instance: Any) -> range:
        """The tries since the task was scheduled, or cleared; only the present one if the DAG has fewer retries now."""
        first = max(instance.max_tries - (self.retries or 0), 0) + 1
        return range(min(first, instance.try_number), instance.try_number + 1)

    def refuse_edits(self, context: Context) -> None:
        """Raises ConfigurationError if params, or a target, were edited since the first task checked them."""
        if self.first_task:
            params = {PARAMS.get(name, name) for name in self.template_fields}
            first_try = self.list_tries(context["ti"]).start
            refuse_edits(context, self.first_task, first_try, params, self.address)


def push_fault(instance: Any, fault: str) -> None:
    """Leave why a task failed for later steps."""
    instance.xcom_push(key=FAULT, value=push_group(instance, [to_json(Fault("", fault))]))


def describe(error: Exception) -> str:
    """An error as the text of a fault."""
    return str(error) if isinstance(error, FINAL) else f"{type(error).__name__}: {error}"


def run_folder(folder: str, run: str) -> Path:
    """The folder of a run's files in ``folder``; ``run`` is its DAG and id, as :data:`RUN` renders them."""
    return Path(local_path(folder)).absolute().joinpath(*map(_folder_name, run.split("/")))


def _folder_name(name: str) -> str:
    """A name without characters that a folder's name can't have, and not too long for one."""
    safe = re.sub(r"[^\w.-]|^[.]", "_", name)
    if len(safe.encode()) <= NAME_BYTES:
        return safe
    return f"{safe[:40]}-{hashlib.blake2b(name.encode(), digest_size=8).hexdigest()}"


def cut_label(text: str) -> str:
    """A text as a map index; one that is too long becomes its beginning, a digest of all of it, and its end."""
    if len(text) <= LABEL_LENGTH:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()
    kept = LABEL_LENGTH - len(digest) - 2
    end = kept // 2
    return f"{text[: kept - end]}…{digest}…{text[-end:]}"
