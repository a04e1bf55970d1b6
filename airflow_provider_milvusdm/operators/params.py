"""DAG params as arguments of operators: the templates, and the values that these render."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_milvusdm.config.params import IMPORT_UNIT_MIB, UNIT_MIB
from airflow_provider_milvusdm.config.validation import Params, read_params
from airflow_provider_milvusdm.exceptions import MilvusdmError
from airflow_provider_milvusdm.operators.base import run_folder

if TYPE_CHECKING:
    from airflow.sdk import Context

UNIT_MIB_TEMPLATE = (
    "{{ params.unit_mib or "
    f"({UNIT_MIB} if params.get('load_method', 'insert') == 'insert' else {IMPORT_UNIT_MIB})"
    " }}"
)

ADDRESS = ("milvus_conn_id", "dest_host", "dest_port", "dest_uri")
"""Params that say where the target is."""


def hook_arguments(
    milvus_conn_id: str, dest_host: str | None, dest_port: int | str | None, dest_uri: str | None
) -> dict[str, Any]:
    """Arguments of :class:`MilvusHook`, of the values of :data:`ADDRESS`; what is empty replaces nothing."""
    return {
        "milvus_conn_id": milvus_conn_id,
        "host": dest_host or None,
        "port": int(dest_port) if dest_port else None,
        "uri": dest_uri or None,
    }


def text_template(name: str) -> str:
    """Template of a param that is text or a number; it renders null as empty text."""
    return f"{{{{ params.{name} if params.{name} is not none else '' }}}}"


def json_template(name: str) -> str:
    """Template of a param of any type; it renders JSON, which :func:`parse_argument` reads."""
    return f"{{{{ params.{name} | tojson }}}}"


def text_arguments(*names: str) -> dict[str, Any]:
    """Arguments that have the names of these params, as text."""
    return {name: text_template(name) for name in names}


def json_arguments(*names: str) -> dict[str, Any]:
    """Arguments that have the names of these params, as JSON."""
    return {name: json_template(name) for name in names}


def parse_argument(value: Any) -> Any:
    """The value of an operator's argument: of JSON text, as a template renders it, what it says; else itself."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def refuse_bad_params(job: type[Params]) -> Callable[[Context], None]:
    """A ``pre_execute`` of the first step: it checks the params of the run, and that folders can be written to.

    All faults are told at once. Params that the job doesn't have are refused, but for those of the DAG itself.
    """

    def refuse(context: Context) -> None:
        from airflow.sdk.exceptions import AirflowFailException

        of_dag = set(context["dag"].params) - set(job.model_fields)
        try:
            read_params(job, {name: value for name, value in context["params"].items() if name not in of_dag})
            for name in job.written_folders:
                if folder := context["params"].get(name):
                    from airflow_provider_milvusdm.storage.hdf5_output import require_writable

                    require_writable(run_folder(folder, f"{context['dag'].dag_id}/{context['run_id']}"), name)
        except MilvusdmError as error:
            raise AirflowFailException(str(error)) from None

    return refuse
