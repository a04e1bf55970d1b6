"""Arguments of operators, as a template renders them."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_milvusdm.operators.params import parse_argument


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('{"news": null}', {"news": None}),
        ("[]", []),
        ("true", True),
        ('"news"', "news"),
        ("news", "news"),
        ("", ""),
        ({"news": None}, {"news": None}),
        (False, False),
        (None, None),
    ],
)
def test_an_argument_is_a_value_or_the_json_that_a_template_renders(value: Any, expected: Any) -> None:
    assert parse_argument(value) == expected
