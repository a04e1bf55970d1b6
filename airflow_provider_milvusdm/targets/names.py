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
            raise _same_name(target, other, name, what, where)
        mapped[name] = target
    return mapped


def refuse_names_of_others(
    mapped: Mapping[str, str], others: Iterable[str], rename: Mapping[str, str], what: str, where: str
) -> None:
    """Refuse a mapped name that belongs to one of the ``others``, which are not migrated now.

    ``mapped`` and ``rename``: as of :func:`target_names`. A name that was not changed, or that ``rename`` gives, is not
    refused. Raises ConfigurationError.
    """
    changed = {target: name for name, target in mapped.items() if target != name and where + name not in rename}
    for other in others:
        if target_name(other) in changed:
            raise _same_name(target_name(other), other, changed[target_name(other)], what, where)


def _same_name(target: str, other: str, name: str, what: str, where: str) -> ConfigurationError:
    return ConfigurationError(
        f"two {what}s would get the same name in the target: {other!r} and {name!r}",
        where=where.rstrip("/") or None,
        expected="different names",
        found=repr(target),
        cure=f"Rename one of them: {_example(where + name)}.",
    )


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
