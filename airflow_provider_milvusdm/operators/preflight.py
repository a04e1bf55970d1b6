"""What the first task checks before it reads the source: the params, and the target."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException

from airflow_provider_milvusdm.config.params import MilvusParams
from airflow_provider_milvusdm.config.validation import Params
from airflow_provider_milvusdm.exceptions import CURE, ConfigurationError, TransientError, UnknownHostError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook, check_file
from airflow_provider_milvusdm.hooks.milvus_address import is_file
from airflow_provider_milvusdm.hooks.reach import reach
from airflow_provider_milvusdm.operators.base import push_fault
from airflow_provider_milvusdm.operators.overview import RUN_FACTS, run_facts
from airflow_provider_milvusdm.operators.params import ADDRESS, hook_arguments, refuse_bad_params

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

CREATING_MODES = ("skip", "overwrite")
"""Modes that create every collection they load; the others may only use what exists."""


def check_run(job: type[Params]) -> Callable[[Context], None]:
    """A ``pre_execute`` of the first step: it checks the params, and reaches the target.

    Bad params, a target that refuses the run, and a host that does not exist, fail the task without a retry. A target
    that is away is retried.
    """
    check_params = refuse_bad_params(job)

    def check(context: Context) -> None:
        step: Any = context["task"]
        try:
            check_params(context)
            facts = run_facts(job, context["params"]) | {"first_try": step.list_tries(context["ti"]).start}
            context["ti"].xcom_push(key=RUN_FACTS, value=facts)
            if issubclass(job, MilvusParams):
                hook = MilvusHook(**hook_arguments(*(context["params"][name] for name in ADDRESS)))
                target = _reach_target(hook, context["params"]["mode"])
                context["ti"].xcom_push(key=RUN_FACTS, value=facts | {"target": target, "address": hook.address})
                log.info("target: %s", target)
        except AirflowNotFoundException as error:
            fault = f"{error} {CURE}Create the connection in Airflow, or correct milvus_conn_id."
            push_fault(context["ti"], fault)
            raise AirflowFailException(fault) from None
        except (ConfigurationError, UnknownHostError) as error:
            push_fault(context["ti"], str(error))
            raise AirflowFailException(str(error)) from None
        except (AirflowFailException, TransientError) as error:
            push_fault(context["ti"], str(error))
            raise
        except Exception as error:
            push_fault(context["ti"], f"{type(error).__name__}: {error}")
            raise

    return check


def _reach_target(hook: MilvusHook, mode: str) -> str:
    uri = str(hook.client_arguments()["uri"])
    if is_file(uri):
        check_file(uri)  # it is not opened, because another task may use it
        return f"Milvus Lite file {uri}"
    return f"{reach(hook, creates=mode in CREATING_MODES)}, at {uri}"
