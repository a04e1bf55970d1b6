"""Waits: the pauses grow, and a wait without progress ends with an error."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from pymilvus import MilvusException
from pymilvus.client.types import Status
from pymilvus.exceptions import ErrorCode

from airflow_provider_milvusdm.exceptions import StalledError, UnreachableError
from airflow_provider_milvusdm.targets.milvus.server.waiting import pause_after, tell_silence, wait_until_done


@pytest.mark.parametrize(("waited", "pause"), [(0, 2), (19, 2), (100, 10), (600, 60), (86_400, 60)])
def test_pauses_grow_with_the_time_waited(waited: float, pause: float) -> None:
    assert pause_after(waited, shortest=2) == pause


def looks(*found: str) -> Iterator[str]:
    return itertools.chain(found, itertools.repeat(found[-1]))


def test_a_wait_without_progress_ends_with_the_last_state() -> None:
    seen = looks("1 %", "2 %")
    with pytest.raises(StalledError, match=r"no progress with the index.*within 0 s, found 2 % all the time.*A retry"):
        wait_until_done(lambda: next(seen), "the index", shortest=0.01, seconds=0.2)


def test_a_wait_with_progress_has_no_limit() -> None:
    seen = looks(*(f"{percent} %" for percent in range(15)), "")
    wait_until_done(lambda: next(seen), "the index", shortest=0.05, seconds=0.4)


def test_an_error_other_than_a_timeout_stays_as_it_is() -> None:
    class AwayError(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

    with pytest.raises(AwayError), tell_silence("http://milvus"):
        raise AwayError


@pytest.mark.parametrize("code", [Status.CONNECT_FAILED, grpc.StatusCode.UNAVAILABLE])
def test_a_connection_that_is_lost_is_told_with_the_cure(code: Any) -> None:
    lost = r"onnection to Milvus is lost: http://milvus.*Found no server.*continues"
    with pytest.raises(UnreachableError, match=lost), tell_silence("http://milvus"):
        raise MilvusException(code, "no server")


def test_other_errors_of_a_server_stay_as_they_are() -> None:
    with pytest.raises(MilvusException), tell_silence("http://milvus"):
        raise MilvusException(ErrorCode.COLLECTION_NOT_FOUND, "gone")
