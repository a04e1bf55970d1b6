"""How much is measured, and what must hold: in full, and a short form that only shows that it all still runs."""

from __future__ import annotations

from dataclasses import dataclass

from bench.figures import Limit, at_least, at_most
from bench.inputs import Shape

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    reader: Limit
    """GB of vectors a second."""
    writer_of_wire: Limit
    writer_of_insert: Limit
    load_of_wire: Limit
    processor_time: Limit
    """What `MilvusClient.insert` takes of the client's processors, of what the writer takes."""
    import_of_insert: Limit
    run_of_allowed: Limit | None
    load_memory: Limit
    """MB beyond the imports."""
    load_memory_of_units: Limit
    many_of_one: Limit
    resolve_memory: Limit
    """MB beyond the imports."""
    resolve: Limit
    """GB of vectors a second of a processor."""
    verify_of_load: Limit
    """What full verification takes, of what the load tasks take."""
    validate: Limit | None
    """Seconds of `milvusdm validate` of the sample."""
    sample: Limit | None
    """Seconds of `milvusdm --yaml` of the sample, into Milvus Lite."""
    many_on_server: Limit | None
    """Seconds for each of many small collections; so is the next."""
    many_on_lite: Limit | None
    planned: Limit | None
    """Seconds of `milvusdm validate` of thousands of collections."""
    scheduled: Limit | None
    """Seconds of a run of many small collections under a scheduler with four slots."""


@dataclass(frozen=True)
class Scale:
    rounds: int
    read: Shape
    written: tuple[Shape, ...]
    """Of some 50 MB: more, and it's the server's storing that is measured, whoever writes."""
    write_rounds: int
    imported: Shape
    verified: tuple[Shape, ...]
    migrated: tuple[Shape, ...]
    """The first of them has a limit."""
    run_rounds: int
    loaded: Shape
    """One segment, loaded in units of each of `unit_bytes`, the last of them as large as it is."""
    unit_bytes: tuple[int, int]
    divided: Shape
    segments: int
    resolved: Shape
    resolved_segments: int
    shares: int
    """That the partition of these segments is divided into."""
    collections: int
    """Of 200 rows, migrated in one run."""
    planned: int
    """Collections of one row in each of four partitions, of a dry run."""
    limits: Limits


FULL = Scale(
    rounds=4,
    read=Shape(2_000_000, 128),
    written=(Shape(100_000, 128), Shape(16_000, 768), Shape(800_000, 512, binary=True)),
    write_rounds=12,
    imported=Shape(1_000_000, 128),
    verified=(Shape(1_000_000, 128), Shape(160_000, 768), Shape(4_000_000, 512, binary=True)),
    migrated=(Shape(2_000_000, 128), Shape(660_000, 768), Shape(8_000_000, 512, binary=True)),
    run_rounds=2,
    loaded=Shape(2_097_152, 128),
    unit_bytes=(64 * MIB, 1024 * MIB),
    divided=Shape(2_048_000, 128),
    segments=1000,
    resolved=Shape(100_000_000, 2),
    resolved_segments=20,
    shares=8,
    collections=300,
    planned=5000,
    limits=Limits(
        reader=at_least(1),
        writer_of_wire=at_least(0.9),
        writer_of_insert=at_least(2),
        load_of_wire=at_least(0.85),
        processor_time=at_least(4),
        import_of_insert=at_least(0.75),  # a 2.3 server imports in one thread
        run_of_allowed=at_most(1),
        load_memory=at_most(200),
        load_memory_of_units=at_most(1.1),
        many_of_one=at_most(1.3),
        resolve_memory=at_most(400),
        resolve=at_least(1.5),
        verify_of_load=at_most(0.5),
        validate=at_most(7),
        sample=at_most(10),
        many_on_server=at_most(0.5),
        many_on_lite=at_most(0.25),
        planned=at_most(300),
        scheduled=at_most(180),
    ),
)
SHORT = Scale(
    rounds=2,
    read=Shape(500_000, 128),
    written=(Shape(100_000, 128), Shape(16_000, 768), Shape(200_000, 512, binary=True)),
    write_rounds=4,
    imported=Shape(100_000, 128),
    verified=(Shape(100_000, 128), Shape(16_000, 768), Shape(200_000, 512, binary=True)),
    migrated=(Shape(200_000, 128),),
    run_rounds=1,
    loaded=Shape(524_288, 128),
    unit_bytes=(64 * MIB, 256 * MIB),
    divided=Shape(204_800, 128),
    segments=100,
    resolved=Shape(5_000_000, 2),
    resolved_segments=5,
    shares=4,
    collections=20,
    planned=100,
    limits=Limits(
        reader=at_least(0.2),
        writer_of_wire=at_least(0.3),  # by the clock, where others may be at work: processor time is surer
        writer_of_insert=at_least(0.6),
        load_of_wire=at_least(0.3),
        processor_time=at_least(4),
        import_of_insert=at_least(0.05),  # a job takes seconds, however small
        run_of_allowed=None,  # starting Airflow takes longer than so few rows
        load_memory=at_most(250),
        load_memory_of_units=at_most(1.5),
        many_of_one=at_most(2.5),
        resolve_memory=at_most(200),
        resolve=at_least(0.5),
        verify_of_load=at_most(3),  # a strong read waits 0.2 s, however few rows there are
        validate=None,  # seconds mean nothing beside other work
        sample=None,
        many_on_server=None,
        many_on_lite=None,
        planned=None,
        scheduled=None,
    ),
)
