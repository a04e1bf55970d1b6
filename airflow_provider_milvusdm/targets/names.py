"""Names of collections and partitions in a target: valid names stay, other names are mapped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from airflow_provider_milvusdm.exceptions import ConfigurationError

NAME_LENGTH = 255


def target_name(name: str) -> str:
    """The name that Milvus 2.x accepts: ``2021-03 news`` becomes ``_2021_03_news``."""
    mapped = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return mapped if re.match(r"[A-Za-z_]", mapped) else f"_{mapped}"


def target_names(names: Iterable[str], rename: Mapping[str, str], what: str, where: str = "") -> dict[str, str]:
    """Map ``names`` to names in the target; ``rename`` has priority.

    ``what``: collection or partition, for messages. ``where``: prefix of a name in ``rename``: ``news/`` for the
    partitions of ``news``. Raises ConfigurationError where two names would become one, or a name is not valid.
    """
    mapped: dict[str, str] = {}
    names_by_target: dict[str, str] = {}
    for name in names:
        target = rename.get(where + name, target_name(name))
        _check_name(target, name, what, where)
        other = names_by_target.setdefault(target, name)
        if other != name:
            raise ConfigurationError(
                f"two {what}s would get the same name in the target: {other!r} and {name!r}",
                where=where.rstrip("/") or None,
                expected="different names",
                found=repr(target),
                cure=f"Rename one of them: {_example(where + name)}.",
            )
        mapped[name] = target
    return mapped


def _check_name(target: str, name: str, what: str, where: str) -> None:
    if target == target_name(target) and len(target) <= NAME_LENGTH:
        return
    raise ConfigurationError(
        f"{what} {name!r} can't have this name in the target",
        where=where.rstrip("/") or None,
        expected=f"letters, digits and underscores, no digit at the start, at most {NAME_LENGTH} characters",
        found=repr(target),
        cure=f"Rename it: {_example(where + name)}.",
    )


def _example(name: str) -> str:
    return "rename: " + json.dumps({name: "another_name"}, ensure_ascii=False)
