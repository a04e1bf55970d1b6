"""The trigger of bulk imports, as a triggerer has it: serialised and made again."""

from __future__ import annotations

import asyncio
import json
from pkgutil import resolve_name
from typing import Any

import pytest

from airflow_provider_milvusdm.triggers.milvus import MilvusImportTrigger

HOOK = {"milvus_conn_id": "nowhere", "host": None, "port": None, "uri": None}


def test_it_is_made_again_from_what_it_serialises() -> None:
    path, arguments = MilvusImportTrigger(jobs=(1, 2), collection="news", seconds=2.5, **HOOK).serialize()
    made = resolve_name(path)(**json.loads(json.dumps(arguments)))
    assert isinstance(made, MilvusImportTrigger)
    assert made.serialize() == (path, {"jobs": [1, 2], "collection": "news", "seconds": 2.5} | HOOK)


def test_it_fires_where_it_cannot_ask_so_that_the_task_meets_the_error() -> None:
    assert first_event((1,)) == {"jobs": [1]}


def test_without_jobs_it_asks_nobody(caplog: pytest.LogCaptureFixture) -> None:
    assert first_event(()) == {"jobs": []}
    assert "can't be asked for" not in caplog.text


def first_event(jobs: tuple[int, ...]) -> Any:
    async def fire() -> Any:
        return await anext(MilvusImportTrigger(jobs=jobs, collection="news", **HOOK).run())

    return asyncio.run(fire()).payload
