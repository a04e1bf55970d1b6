"""The Test button of the connection form, as Airflow's API server handles it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.airflow_standalone import StandaloneAirflow
from tests.support.processes import free_ports


def press(airflow: StandaloneAirflow, **fields: Any) -> tuple[bool, str]:
    """What the form shows of a connection that is filled in and not saved yet."""
    body = {"connection_id": "not_saved", "conn_type": "milvus"} | fields
    answer = airflow.call("POST", "/api/v2/connections/test", body)
    return answer["status"], answer["message"]


@pytest.mark.parametrize("form", ["host and port", "host:port", "http://host:port"])
def test_an_address_is_understood_in_each_form(airflow: StandaloneAirflow, milvus_server_uri: str, form: str) -> None:
    url = urlsplit(milvus_server_uri)
    fields: dict[str, dict[str, Any]] = {
        "host and port": {"host": url.hostname, "port": url.port},
        "host:port": {"host": url.netloc},
        "http://host:port": {"host": milvus_server_uri},
    }
    assert press(airflow, **fields[form]) == (True, "Milvus v2.3.5-lite, database default")


def test_a_database_that_does_not_exist_is_named(airflow: StandaloneAirflow, milvus_server_uri: str) -> None:
    url = urlsplit(milvus_server_uri)
    worked, message = press(airflow, host=url.hostname, port=url.port, schema="nowhere")
    assert not worked
    assert message.startswith("There is no database 'nowhere'")


def test_a_wrong_host_and_a_wrong_port_are_named(airflow: StandaloneAirflow) -> None:
    assert press(airflow, host="nowhere.invalid")[1].startswith("There is no host 'nowhere.invalid'")
    [port] = free_ports(1)
    worked, message = press(airflow, host="127.0.0.1", port=port)
    assert not worked
    assert message.startswith(f"No server listens on port {port} of host '127.0.0.1'")


def test_what_contradicts_itself_is_said_of_this_connection(airflow: StandaloneAirflow) -> None:
    worked, message = press(airflow, host="milvus:19530", port=19531)
    assert not worked
    assert message.startswith("Host of this connection contradicts Port 19531")
