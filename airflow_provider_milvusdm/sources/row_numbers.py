"""Row numbers as ids, for files without ids. Such a file is the segment ``<file>@<id of its first row>``."""

from __future__ import annotations

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.model.rows import HIGHEST_ID, LOWEST_ID


def numbered_segment(file: str, first_id: int) -> str:
    """Name of the segment of a file whose rows are numbered from ``first_id`` on."""
    return f"{file}@{first_id}"


def parse_numbered_segment(name: str) -> tuple[str, int]:
    """The file and the id of its first row, from the name of a segment."""
    file, _, first_id = name.rpartition("@")
    return file, int(first_id)


def check_row_numbers(first_id: int, rows: int) -> None:
    """Check that ids from ``first_id`` on for so many rows fit into Milvus. Raises ConfigurationError."""
    highest = HIGHEST_ID - max(rows - 1, 0)
    if not LOWEST_ID <= first_id <= highest:
        raise ConfigurationError(
            "rows can't be numbered from here",
            expected=f"id_offset from {LOWEST_ID} to {highest}, for {rows} rows",
            found=first_id,
            cure="Choose another id_offset.",
        )
