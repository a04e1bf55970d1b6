"""Figures that were measured, and what they must be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """`at` least or most so much."""

    at: str
    value: float

    def holds(self, value: float) -> bool:
        return value >= self.value if self.at == "least" else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at == 'least' else '≤'} {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """One figure of one part; without a `limit` it only tells."""

    part: str
    what: str
    value: float
    unit: str
    limit: Limit | None = None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.limit.holds(self.value)

    def __str__(self) -> str:
        verdict = "" if self.limit is None else f"{self.limit!s:>8}  {'holds' if self.holds else 'DOES NOT HOLD'}"
        return f"{self.part:10} {self.what:52} {_rounded(self.value):>10} {self.unit:10} {verdict}".rstrip()


def at_least(value: float) -> Limit:
    return Limit("least", value)


def at_most(value: float) -> Limit:
    return Limit("most", value)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
