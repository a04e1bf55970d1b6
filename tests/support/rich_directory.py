"""A Milvus 1.x directory with all that a server may have left in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support.directories import random_vectors
from tests.support.milvus1x_directory import Milvus1xDirectory
from tests.support.milvus1x_rows import (
    BACKUP,
    DROPPED,
    HAMMING,
    INDEX,
    IP,
    JACCARD,
    L2,
    NEW,
    NEW_INDEX,
    NEW_MERGE,
    RAW,
    SUBSTRUCTURE,
    SUPERSTRUCTURE,
    TANIMOTO,
    TO_DELETE,
    TO_INDEX,
    Table,
)

EDGE_IDS = [2**63 - 2, -(2**63), 0, 1 - 2**63, -1, 1, 2**62]
FLAT, IVF_FLAT, BIN_FLAT, BIN_IVF_FLAT, HNSW, ANNOY = 1, 2, 9, 10, 11, 12
FLOAT = ["news", "products", "year$2020", "nothing"]
BINARY = {
    "hamming": (HAMMING, 64, BIN_IVF_FLAT, '{"nlist":4}'),
    "jaccard": (JACCARD, 8, BIN_FLAT, "{}"),
    "tanimoto": (TANIMOTO, 512, BIN_IVF_FLAT, '{"nlist":4}'),
    "substructure": (SUBSTRUCTURE, 16, BIN_FLAT, "{}"),
    "superstructure": (SUPERSTRUCTURE, 16, BIN_FLAT, "{}"),
}
"""Metric, dimension, index and its parameters by collection."""

RENAME = {"products": "wares", "news/新闻": "xinwen"}
PARTITIONS = {
    "news": {
        "_default": "_default",
        "2021-03 news": "_2021_03_news",
        "新闻": "xinwen",
        "体育": "__",
        "empty": "empty",
    },
    "products": {"_default": "_default"},
    "year$2020": {"_default": "_default", "nothing yet": "nothing_yet"},
    "nothing": {"_default": "_default"},
    **{name: {"_default": "_default", "b": "b"} for name in BINARY},
}
"""Target partition of each tag."""


def write_rich_directory(path: Path) -> Milvus1xDirectory:
    directory = Milvus1xDirectory(path, version="1.1.1")
    _add_news(directory)
    _add_products(directory)
    for number, (name, (metric, dimension, engine, params)) in enumerate(BINARY.items()):
        collection = directory.collection(name, dimension=dimension, metric=metric, engine=engine, index_params=params)
        _add_bits(directory, collection, number)
    year = directory.collection("year$2020", dimension=3)
    directory.partition(year, "nothing yet")
    directory.segment(year, [5, 4], random_vectors(2, 3, 3), deleted=[0, 1])
    directory.segment(year, [5], random_vectors(1, 4, 3))
    directory.collection("nothing", dimension=128, engine=ANNOY, index_params='{"n_trees":8}')
    gone = directory.collection("gone", dimension=8, state=DROPPED)
    directory.segment(gone, [1], random_vectors(1, 5))
    directory.write(leave_in_wal=True)
    return directory


def _add_news(directory: Milvus1xDirectory) -> None:
    """Euclidean, in many segments of each kind; ids again in other partitions."""
    news = directory.collection("news", dimension=8, metric=L2, engine=IVF_FLAT, index_params='{"nlist":16}')
    march, chinese, sport = (directory.partition(news, tag) for tag in ("2021-03 news", "新闻", "体育"))
    directory.partition(news, "empty")
    dropped = directory.partition(news, "dropped", state=DROPPED)
    directory.segment(news, EDGE_IDS, random_vectors(7, 10), file_types=(INDEX, BACKUP))
    directory.segment(
        news,
        range(1000, 4000),
        random_vectors(3000, 11),
        deleted=[2999, 0, 1500, 1, 1499],
        file_types=(INDEX, BACKUP),
    )
    directory.segment(news, range(10, 40), random_vectors(30, 12), deleted=[29, 3], file_types=(TO_INDEX,))
    directory.segment(news, [50, 51, 52, 53], _edge_vectors(), file_types=(RAW,))
    for number, file_type in enumerate((NEW, NEW_MERGE, NEW_INDEX, TO_DELETE)):
        directory.segment(
            news, [7000 + number, 10], random_vectors(2, 13), file_types=(file_type,), write_folder=number % 2 == 0
        )
    directory.segment(march, EDGE_IDS, random_vectors(7, 14), deleted=[6, 2])
    directory.segment(march, [1000, 1001], random_vectors(2, 15), file_types=(TO_INDEX,))
    directory.segment(chinese, EDGE_IDS, random_vectors(7, 16), file_types=(INDEX, BACKUP))
    directory.segment(sport, [0, 2, 1000], random_vectors(3, 17))
    directory.segment(dropped, [1, 8000], random_vectors(2, 18))


def _edge_vectors() -> np.ndarray:
    """Zero bytes at the end, negative zero, denormal numbers."""
    vectors = np.zeros((4, 8), np.float32)
    vectors[0, 0] = 1
    vectors[1] = -0.0
    vectors[2] = 1e-45
    vectors[3, ::2] = -1e-40
    return vectors


def _add_products(directory: Milvus1xDirectory) -> None:
    """Inner product, ids made by the server, the largest floats there are."""
    products = directory.collection(
        "products", dimension=4, metric=IP, engine=HNSW, index_params='{"M":16,"efConstruction":200}', flag=1
    )
    first = 1_614_924_431_171_826_000
    ids = range(first, first + 500)
    directory.segment(products, ids, random_vectors(500, 20, 4), deleted=range(499, 400, -2))
    largest = float(np.finfo(np.float32).max)
    directory.segment(products, [1, 2], [[largest, 0, 0, 0], [0, 0, 0, -largest]])


def _add_bits(directory: Milvus1xDirectory, collection: Table, seed: int) -> None:
    """Binary vectors, among them some that end in zero bytes; two that are all zeros or ones."""
    bits = np.random.default_rng(seed).integers(0, 256, (60, collection.dimension // 8), np.uint8)
    bits[:20, -1] = 0
    bits[0], bits[1] = 0, 255
    directory.segment(collection, EDGE_IDS, bits[:7], file_types=(INDEX, BACKUP))
    directory.segment(collection, range(100, 140), bits[7:47], deleted=[39, 0, 7])
    directory.segment(directory.partition(collection, "b"), range(100, 113), bits[47:], deleted=[12])
