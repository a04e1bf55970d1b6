"""Errors: what their text says, and which of them a retry can help."""

from __future__ import annotations

import pickle

import pytest

from airflow_provider_milvusdm import exceptions
from airflow_provider_milvusdm.exceptions import MilvusdmError, StalledError, TransientError

ERRORS = [error for name, error in vars(exceptions).items() if isinstance(error, type) and not name.startswith("_")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_an_error_is_either_final_or_transient(error: type[Exception]) -> None:
    assert issubclass(error, MilvusdmError) != issubclass(error, TransientError)


def test_a_transient_error_says_what_a_final_one_says_and_outlives_its_process() -> None:
    error = StalledError("Milvus hangs", where="host", expected="progress", found="2 %", cure="A retry continues.")
    assert str(error) == "Milvus hangs: host. Expected progress, found 2 %. What to do: A retry continues."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
