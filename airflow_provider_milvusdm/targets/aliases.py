"""The param ``alias``, and the names of the collections that aliases stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_milvusdm.exceptions import ConfigurationError
from airflow_provider_milvusdm.targets.names import NAME_LENGTH, target_name

if TYPE_CHECKING:
    from airflow_provider_milvusdm.manifests import CollectionPlan

FINGERPRINT_LENGTH = 12
"""Length of the fingerprint at the end of the name of a collection with an alias."""


def read_aliases(alias: Mapping[str, str] | str | None, names: Mapping[str, str]) -> dict[str, str]:
    """The alias of each collection that gets one.

    ``alias``: by collection, or a text where there is only one. ``names``: names in the target, by collection. Raises
    ConfigurationError.
    """
    if isinstance(alias, str) and alias and len(names) != 1:
        raise ConfigurationError(
            f"alias {alias!r} can't stand for {len(names)} collections",
            cure='Name the collection: alias: {"collection": "alias"}, or select one with source_collection.',
        )
    aliases = dict.fromkeys(names, alias) if isinstance(alias, str) and alias else dict(alias or {})
    faults = list(_faults(aliases, names))
    if faults:
        raise ConfigurationError("alias can't be used: " + "; ".join(faults), cure="Correct the param alias.")
    return aliases


def _faults(aliases: Mapping[str, str], names: Mapping[str, str]) -> Iterator[str]:
    counts, others = Counter(aliases.values()), {name for other, name in names.items() if other not in aliases}
    for collection, alias in aliases.items():
        if collection not in names:
            yield f"{collection!r} is not migrated"
        if not alias or alias != target_name(alias) or len(alias) > NAME_LENGTH:
            yield f"{alias!r} is not a valid name: use letters, digits and underscores, and no digit at the start"
        if alias in others:
            yield f"{alias!r} is the name of a collection in the target"
        if counts[alias] > 1:
            yield f"{alias!r} can't stand for two collections"


def behind_alias(plan: CollectionPlan, alias: str) -> CollectionPlan:
    """The plan with a target whose name ends with the fingerprint of its rows, so that a later run finds it again."""
    if not alias or plan.error:
        return plan
    name = f"{plan.target.name[: NAME_LENGTH - FINGERPRINT_LENGTH - 1]}_{plan.fingerprint[:FINGERPRINT_LENGTH]}"
    return replace(plan, alias=alias, target=replace(plan.target, name=name))
