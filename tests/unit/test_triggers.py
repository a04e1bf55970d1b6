"""The trigger of bulk imports, as a triggerer has it: serialised and made again."""

from __future__ import annotations

import asyncio
import json
from pkgutil import resolve_name
from typing import Any

import pytest

from airflow_provider_milvusdm.targets import milvus_import_jobs
from airflow_provider_milvusdm.triggers.milvus import MilvusImportTrigger

HOOK = {"milvus_conn_id": "nowhere", "host": None, "port": None, "uri": None}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milvus_import_jobs, "POLL_SECONDS", 0)


def test_it_is_made_again_from_what_it_serialises() -> None:
    path, arguments = MilvusImportTrigger(jobs=(1, 2), collection="news", **HOOK).serialize()
    made = resolve_name(path)(**json.loads(json.dumps(arguments)))
    assert isinstance(made, MilvusImportTrigger)
    assert made.serialize() == (path, {"jobs": [1, 2], "collection": "news"} | HOOK)


def test_it_fires_where_it_cannot_ask_so_that_the_task_meets_the_error() -> None:
    async def first_event() -> Any:
        return await anext(MilvusImportTrigger(jobs=(1,), collection="news", **HOOK).run())

    assert asyncio.run(first_event()).payload == {"jobs": [1]}
