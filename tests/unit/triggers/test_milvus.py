"""The trigger for bulk imports, serialised and made again as a triggerer does it."""

from __future__ import annotations

import asyncio
import json
from pkgutil import resolve_name
from typing import Any

import pytest

from airflow_provider_milvusdm.triggers.milvus import MilvusImportTrigger

HOOK = {"milvus_conn_id": "nowhere", "host": None, "port": None, "uri": None}


def test_it_can_be_made_again_from_its_serialised_form() -> None:
    path, arguments = MilvusImportTrigger(jobs=(1, 2), collection="news", seconds=2.5, **HOOK).serialize()
    made = resolve_name(path)(**json.loads(json.dumps(arguments)))
    assert isinstance(made, MilvusImportTrigger)
    assert made.serialize() == (path, {"jobs": [1, 2], "collection": "news", "seconds": 2.5} | HOOK)


def test_it_fires_if_it_cannot_ask_the_server() -> None:
    """The task then meets the same error."""
    assert first_event((1,)) == {"jobs": [1]}


def test_without_jobs_it_does_not_ask_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MilvusImportTrigger, "_are_running", lambda _: pytest.fail("it asked the server"))
    assert first_event(()) == {"jobs": []}


def first_event(jobs: tuple[int, ...]) -> Any:
    async def fire() -> Any:
        return await anext(MilvusImportTrigger(jobs=jobs, collection="news", **HOOK).run())

    return asyncio.run(fire()).payload
