"""Targets that answer some requests in a way of their own, as managed services do."""

from __future__ import annotations

import grpc
import pytest

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.hooks.milvus import MilvusHook
from airflow_provider_milvusdm.hooks.reach import reach
from tests.support.grpc_proxy import holding_proxy


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL])
@pytest.mark.parametrize("method", ["CreateCollection", "ShowCollections"])
def test_a_request_that_the_target_does_not_know_stops_no_run(
    milvus_server_uri: str, method: str, code: grpc.StatusCode
) -> None:
    with holding_proxy(milvus_server_uri) as proxy:
        proxy.refused = {method: code}
        assert reach(MilvusHook(uri=proxy.uri), creates=True).startswith("Milvus v2")
    assert method in proxy.asked


def test_a_clear_refusal_does(milvus_server_uri: str) -> None:
    with holding_proxy(milvus_server_uri) as proxy:
        proxy.refused = {"CreateCollection": grpc.StatusCode.PERMISSION_DENIED}
        with pytest.raises(ConfigurationError, match="may not create collections"):
            reach(MilvusHook(uri=proxy.uri), creates=True)
        assert reach(MilvusHook(uri=proxy.uri)).startswith("Milvus v2")
