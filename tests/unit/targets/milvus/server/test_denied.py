"""How servers of any version refuse all writes, and how they limit the rate."""

from __future__ import annotations

import pytest
from pymilvus import MilvusException
from pymilvus.exceptions import ErrorCode
from pymilvus.grpc_gen import common_pb2

from airflow_provider_milvusdm.exceptions import DeniedError
from airflow_provider_milvusdm.targets.milvus.server.denied import tell_denial

UNEXPECTED = common_pb2.UnexpectedError


@pytest.mark.parametrize(
    ("code", "error_code"),
    [
        (ErrorCode.FORCE_DENY, UNEXPECTED),
        (0, common_pb2.ForceDeny),
        (0, common_pb2.DiskQuotaExhausted),
        (0, common_pb2.MemoryQuotaExhausted),
        (0, common_pb2.TimeTickLongDelay),
    ],
)
def test_a_denial_is_raised_with_its_reason(code: int, error_code: int) -> None:
    with pytest.raises(DeniedError, match=r"http://milvus.*found no room.*continues"), tell_denial("http://milvus"):
        raise MilvusException(code, "no room", error_code)


@pytest.mark.parametrize(
    ("code", "error_code"), [(ErrorCode.RATE_LIMIT, common_pb2.RateLimit), (ErrorCode.COLLECTION_NOT_FOUND, UNEXPECTED)]
)
def test_other_errors_stay_as_they_are(code: int, error_code: int) -> None:
    with pytest.raises(MilvusException), tell_denial("http://milvus"):
        raise MilvusException(code, "slower", error_code)
