"""Copies of a 1.x server in use are synced in any order, in whole or in part, and killed: a verified sync is exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from airflow_provider_milvusdm.report import VERIFIED
from tests.support.chain import Chain
from tests.support.collections_2x import load_all, stored
from tests.support.killed import create
from tests.support.milvus1x_rows import CLOCK
from tests.support.milvus1x_server import TAGS, Copy, LiveServer

SELECTIONS = [{"news": None}, {"news": None}, {"news": None}, {"news": ["a"]}, {"news": ["_default"]}]
HALF_LOADED = "half loaded, from another source or selection"


def live_on(server: LiveServer, folder: Path, copies: int) -> list[Copy]:
    found = []
    for number in range(copies):
        server.work()
        found.append(server.copy(folder / str(number)))
    return found


@pytest.mark.parametrize(
    ("target_uri", "seed"),
    [("lite", 100), ("lite", 108), ("lite", 122), pytest.param("server", 100, marks=pytest.mark.long)],
    indirect=["target_uri"],
)
def test_any_copies_synced_in_any_order_end_exact(client: MilvusClient, tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    copies = live_on(LiveServer(random), tmp_path / "one", 12)
    others = live_on(LiveServer(random, CLOCK - 10**10), tmp_path / "other", 2)
    for number in range(len(copies)):
        any_copy = (copies + others)[random.integers(len(copies) + len(others))]
        copy = copies[number] if random.random() < 0.7 else any_copy
        selection = SELECTIONS[random.integers(len(SELECTIONS))]
        chain = Chain(copy.path, client)
        if random.random() < 0.4 and number:
            create(client, chain.plan(selection)[0], "sync", int(random.integers(1, 12)), max_deletions=1)
            continue
        report = chain.run(selection, "sync", verify="counts")["news"]
        if any(HALF_LOADED in fault for fault in report.faults):  # by a killed sync of another selection
            selection = {"news": None}
            report = chain.run(selection, "sync", verify="counts")["news"]
        assert (report.status, report.faults) == (VERIFIED, ())
        load_all(client, ["news"])
        there = stored(client, "news")
        for tag in selection["news"] or TAGS:
            assert there[tag] == copy.rows[tag], (number, tag)
