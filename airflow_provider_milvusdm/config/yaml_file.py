"""MilvusDM's YAML files, unchanged, as jobs: a kind (``M2M``) and the params of its DAG."""

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

WITHOUT_MEANING = ("milvus_version", "milvus-version")
"""Accepted as MilvusDM accepted them; the catalog says which version it is."""
NULL_MEANS_NONE = ("ids_dataset",)
"""Of other params, null is as if they were left out."""
YAML_FAULTS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, ValueError)
"""What PyYAML raises: on ``!!timestamp x``, ``!!int ''`` or a thousand brackets nothing of its own."""
OTHER_BASE = re.compile(r"[-+]?0[0-9_]+|.*:.*")
MYSQL_PARAMETER = ("host", "port", "user", "password", "database")


@dataclass(frozen=True)
class Job:
    """One job of a YAML file. ``mysql`` holds a password, so it isn't shown and is no param.

    ``schedule``: what a DAG made of the file is given besides.
    """

    kind: str
    params: Mapping[str, Any]
    mysql: Mapping[str, Any] = field(default_factory=dict, repr=False)
    schedule: ScheduleParams = field(default_factory=lambda: ScheduleParams())

    def as_dry_run(self) -> Job:
        """The same job, which touches no target."""
        return replace(self, params={**self.params, "dry_run": True})

    def as_abandoned(self) -> Job:
        """The same job, which undoes what a run of it left half done."""
        if self.kind == "M2H":
            raise ConfigurationError("M2H leaves nothing half done: a file is there only when it is whole")
        return replace(self, params={**self.params, "mode": "abandon", "dry_run": False})

    @property
    def dag_id(self) -> str:
        return f"milvusdm_{self.kind.lower()}"


def read_yaml(path: Path) -> list[Job]:
    """The jobs of a YAML file, checked. Raises ConfigurationError; its text quotes no value, for it may be a secret."""
    content = _load(path)
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(
            "a YAML file of no job",
            where=path,
            expected=f"{' or '.join(JOBS)} with its parameters",
            found=type(content).__name__,
        )
    return [_job(path, str(kind), values) for kind, values in content.items()]


def _load(path: Path) -> Any:
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
    """What is no text: UTF-16 without its mark is UTF-8 with zeros in it, which PyYAML refuses."""
    return f"byte 0x{error.object[error.start] if isinstance(error, UnicodeDecodeError) else error.character:02x}"


class _Loader(yaml.SafeLoader):
    """Refuses what PyYAML takes to a reader's harm.

    A key that is there twice: it takes the last and drops the first. An alias: ten lines of them, each of the line
    before, stand for more values than memory holds. A number such as 010 or 1:30: it takes it for one of base 8 or 60.
    """

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if OTHER_BASE.fullmatch(node.value):
            raise ConfigurationError(
                "a number with a zero in front, or with colons, which YAML reads in base 8 or 60",
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
                expected="values alone",
                cure="Write the value itself, or in quotes where the asterisk is a part of it.",
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        repeated = [key for key, count in keys.items() if count > 1]
        if repeated:
            raise ConfigurationError(
                "a name is there twice",
                where=f"{node.start_mark.name}, from line {node.start_mark.line + 1}",
                expected="each name once",
                found=", ".join(repeated),
                cure="Put both lists under one name, or each job into a file of its own.",
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
    given = {str(name): value for name, value in values.items() if name not in WITHOUT_MEANING}
    params = {name: value for name, value in given.items() if value is not None or name in NULL_MEANS_NONE}
    own = set(JOBS[kind].model_fields)
    mysql = _mysql(path, params.pop("mysql_parameter", None)) if "mysql_conn_id" in own else {}
    read = read_params(_with_schedule(JOBS[kind]), params, where=path)
    schedule = ScheduleParams(**read.model_dump(include=set(ScheduleParams.model_fields), exclude_unset=True))
    return Job(kind, read.model_dump(mode="json", include=own, exclude_unset=True), mysql, schedule)


@cache
def _with_schedule(job: type[Params]) -> type[Params]:
    """The params of a job and of its schedule, for their faults to be told together."""
    return create_model(f"{job.__name__}WithSchedule", __base__=(job, ScheduleParams))


def _mysql(path: Path, parameter: Any) -> dict[str, Any]:
    """``mysql_parameter`` without its empty values: all empty means SQLite."""
    if not parameter:
        return {}
    if not isinstance(parameter, dict):
        bad = [type(parameter).__name__]
    else:
        bad = [str(name) for name, value in parameter.items() if not _is_mysql(name, value)]
    if bad:
        raise ConfigurationError(
            "mysql_parameter",
            where=path,
            expected=f"{', '.join(MYSQL_PARAMETER)}: text, and a number for port",
            found=", ".join(bad),
            cure="Put it in quotes: YAML makes a number, a date, true or false of what looks like one.",
        )
    return {name: value for name, value in parameter.items() if value not in (None, "")}


def _is_mysql(name: Any, value: Any) -> bool:
    if name == "port" and type(value) in (int, str) and value != "":
        return str(value).isdecimal() and 1 <= int(value) <= 65535
    return name in MYSQL_PARAMETER and isinstance(value, str | None)
