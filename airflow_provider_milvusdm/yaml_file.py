"""MilvusDM's YAML files, unchanged, as jobs: a kind (``M2M``) and the params of its DAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_milvusdm.config import nearest, read_migration
from airflow_provider_milvusdm.exceptions import ConfigurationError

DAGS = {"M2M": "milvusdm_m2m"}
WITHOUT_MEANING = ("milvus_version", "milvus-version")
"""Accepted as MilvusDM accepted them; the catalog says which version it is."""
MYSQL_PARAMETER = ("host", "port", "user", "password", "database")


@dataclass(frozen=True)
class Job:
    """One job of a YAML file. ``mysql`` holds a password, so it isn't shown and is no param."""

    kind: str
    params: Mapping[str, Any]
    mysql: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def dag_id(self) -> str:
        return DAGS[self.kind]


def read_yaml(path: Path) -> list[Job]:
    """The jobs of a YAML file, checked. Raises ConfigurationError."""
    content = _load(path)
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(
            "a YAML file of no job", where=path, expected=f"one of {', '.join(DAGS)} with its parameters", found=content
        )
    return [_job(path, str(kind), values) for kind, values in content.items()]


def _load(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"the YAML file can't be read: {error.strerror}", where=path) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError("not a YAML file", where=path, found=" ".join(str(error).split())) from None


def _job(path: Path, kind: str, values: Any) -> Job:
    if kind not in DAGS:
        raise ConfigurationError(
            f"no such job{nearest(kind, DAGS)}", where=path, expected=f"one of {', '.join(DAGS)}", found=kind
        )
    if not isinstance(values, dict):
        raise ConfigurationError(f"job {kind} has no parameters", where=path, found=values)
    params = {str(name): value for name, value in values.items() if value is not None and name not in WITHOUT_MEANING}
    mysql = _mysql(path, params.pop("mysql_parameter", None))
    return Job(kind, read_migration(params).model_dump(mode="json", exclude_unset=True), mysql)


def _mysql(path: Path, parameter: Any) -> dict[str, Any]:
    """``mysql_parameter`` without its empty values: all empty means SQLite."""
    if not parameter:
        return {}
    unknown = sorted(set(parameter) - set(MYSQL_PARAMETER)) if isinstance(parameter, dict) else [str(type(parameter))]
    if unknown:
        raise ConfigurationError(
            "mysql_parameter", where=path, expected=", ".join(MYSQL_PARAMETER), found=", ".join(unknown)
        )
    return {name: value for name, value in parameter.items() if value not in (None, "")}
