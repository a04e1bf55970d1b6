"""Row numbers as ids, for sources that have none."""

from __future__ import annotations

from airflow_provider_milvusdm.exceptions import ConfigurationError

LOWEST_ID, HIGHEST_ID = -(2**63), 2**63 - 2
"""The next one a Milvus 2.x server stores and never returns."""


def check_row_numbers(first_id: int, rows: int) -> None:
    """Numbers from ``first_id`` on fit in the ids that Milvus has."""
    highest = HIGHEST_ID - max(rows - 1, 0)
    if not LOWEST_ID <= first_id <= highest:
        raise ConfigurationError(
            "rows can't be numbered from here",
            expected=f"id_offset from {LOWEST_ID} to {highest}, for {rows} rows",
            found=first_id,
            cure="Choose another id_offset.",
        )
