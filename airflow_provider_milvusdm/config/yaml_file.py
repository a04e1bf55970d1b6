"""MilvusDM's YAML files, which are read as jobs: each has a kind (``M2M``) and the params of its DAG."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import create_model

from airflow_provider_milvusdm.config.jobs import JOBS, ScheduleParams
from airflow_provider_milvusdm.config.validation import Params, read_params
from airflow_provider_milvusdm.exceptions import ConfigurationError

IGNORED = ("milvus_version", "milvus-version")
"""Keys that MilvusDM's files have and that are not needed: the catalog says which version the source is."""
NULLABLE = ("ids_dataset",)
"""Params for which null is a value; any other param that is null gets its default."""
YAML_FAULTS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, ValueError)
"""What PyYAML raises; for ``!!timestamp x``, ``!!int ''`` or a thousand brackets these are builtin exceptions."""
OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|.*:.*")
"""Numbers that YAML reads in base 8 or 60."""
MYSQL_PARAMETER = ("host", "port", "user", "password", "database")


@dataclass(frozen=True)
class Job:
    """One job of a YAML file.

    ``mysql``: the file's ``mysql_parameter``; it holds a password, so it is not a param, and is not shown.
    ``schedule``: the other arguments of a DAG that is made of the file.
    """

    kind: str
    params: Mapping[str, Any]
    mysql: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schedule: ScheduleParams = field(default_factory=lambda: ScheduleParams())

    def as_dry_run(self) -> Job:
        """The same job as a dry run."""
        return replace(self, params={**self.params, "dry_run": True})

    def as_abandoned(self) -> Job:
        """The same job with mode ``abandon``, which undoes what an interrupted run of it left."""
        if self.kind == "M2H":
            raise ConfigurationError("M2H has nothing to undo: it leaves only complete files")
        return replace(self, params={**self.params, "mode": "abandon", "dry_run": False})

    @property
    def dag_id(self) -> str:
        return f"milvusdm_{self.kind.lower()}"


def read_yaml(path: Path) -> list[Job]:
    """The jobs of a YAML file, checked.

    Raises ConfigurationError; its message quotes no text that may be a secret.
    """
    content = load_yaml(path)
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(
            "a YAML file without a job",
            where=path,
            expected=f"{' or '.join(JOBS)} with its parameters",
            found=type(content).__name__,
        )
    return [_job(path, str(kind), values) for kind, values in content.items()]


def load_yaml(path: Path) -> Any:
    """The content of a YAML file, not checked. Raises ConfigurationError if it can't be read, or is not YAML."""
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except ConfigurationError:
        raise
    except OSError as error:
        raise ConfigurationError(f"the YAML file can't be read: {error.strerror}", where=path) from None
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        raise ConfigurationError(
            "the YAML file is not in UTF-8", where=path, found=_bad_byte(error), cure="Save it as UTF-8."
        ) from None
    except YAML_FAULTS as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigurationError(
            "not a YAML file",
            where=path,
            found=f"a fault in line {mark.line + 1}, column {mark.column + 1}" if mark else type(error).__name__,
            cure="Put text with special characters in quotes.",
        ) from None


def _bad_byte(error: UnicodeDecodeError | yaml.reader.ReaderError) -> str:
    """The first byte that is not text in UTF-8; in UTF-16 without a byte order mark it is a zero."""
    return f"byte 0x{error.object[error.start] if isinstance(error, UnicodeDecodeError) else error.character:02x}"


class _Loader(yaml.SafeLoader):
    """Refuses what PyYAML accepts, and what is hardly ever meant.

    A key that occurs twice: PyYAML keeps only the last value. An alias: ten lines of aliases, each to the line before,
    can stand for more values than memory holds. A number such as 010 or 1:30: PyYAML reads it in base 8 or 60.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if OTHER_BASE.fullmatch(node.value):
            raise ConfigurationError(
                "a number with a leading zero or with colons, which YAML reads in base 8 or 60",
                where=f"{node.start_mark.name}, line {node.start_mark.line + 1}",
                expected="a decimal number, or text in quotes",
                cure="Write the number without them, or put it in quotes.",
            )
        return int(super().construct_yaml_int(node))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConfigurationError(
                "an alias (*name)",
                where=f"{mark.name}, line {mark.line + 1}",
                expected="the value itself",
                cure="Write the value. If it begins with an asterisk, put it in quotes.",
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated = [key for key, count in keys.items() if count > 1]
        if repeated:
            raise ConfigurationError(
                "a name occurs twice",
                where=f"{node.start_mark.name}, from line {node.start_mark.line + 1}",
                expected="each name once",
                found=", ".join(repeated),
                cure="Put both lists under one name, or each job in its own file.",
            )
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _job(path: Path, kind: str, values: Any) -> Job:
    if kind not in JOBS:
        raise ConfigurationError("no such job", where=path, expected=" or ".join(JOBS), found=kind)
    if not isinstance(values, dict):
        raise ConfigurationError(
            f"job {kind} has no parameters", where=path, expected="names and values", found=type(values).__name__
        )
    known = {str(name): value for name, value in values.items() if name not in IGNORED}
    params = {name: value for name, value in known.items() if value is not None or name in NULLABLE}
    own = set(JOBS[kind].model_fields)
    mysql = _mysql(path, params.pop("mysql_parameter", None)) if "mysql_conn_id" in own else {}
    read = read_params(_with_schedule(JOBS[kind]), params, where=path)
    schedule = ScheduleParams(**read.model_dump(include=set(ScheduleParams.model_fields), exclude_unset=True))
    return Job(kind, read.model_dump(mode="json", include=own, exclude_unset=True), mysql, schedule)


@cache
def _with_schedule(job: type[Params]) -> type[Params]:
    """The params of a job and of its schedule in one model, so that all their faults are told at once."""
    return create_model(f"{job.__name__}WithSchedule", __base__=(job, ScheduleParams))


def _mysql(path: Path, parameter: Any) -> dict[str, Any]:
    """``mysql_parameter`` without its empty values; if all are empty, the catalog is in SQLite."""
    if not parameter:
        return {}
    if not isinstance(parameter, dict):
        unknown = [type(parameter).__name__]
    else:
        unknown = [str(name) for name in parameter if name not in MYSQL_PARAMETER]
    if unknown:
        raise ConfigurationError(
            "mysql_parameter has unknown names",
            where=path,
            expected=", ".join(MYSQL_PARAMETER),
            found=", ".join(unknown),
            cure="Correct or remove them.",
        )
    bad = [name for name, value in parameter.items() if not _is_mysql(name, value)]
    if bad:
        raise ConfigurationError(
            "mysql_parameter has values that can't be used",
            where=path,
            expected=f"{', '.join(MYSQL_PARAMETER)}: text, and a number for port",
            found=", ".join(bad),
            cure="Put text in quotes: YAML reads text that looks like a number, a date or a truth value as one.",
        )
    return {name: value for name, value in parameter.items() if value not in (None, "")}


def _is_mysql(name: str, value: Any) -> bool:
    if name == "port" and type(value) in (int, str) and value != "":
        return str(value).isdecimal() and 1 <= int(value) <= 65535
    return isinstance(value, str | None)
