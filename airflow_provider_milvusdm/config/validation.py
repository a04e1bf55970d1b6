"""Params: DAG params, ``--conf`` and MilvusDM's YAML files alike, checked against one model a job."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from airflow_provider_milvusdm.exceptions import ConfigurationError

Selection = dict[str, list[str] | None]
"""Collections, each with the partition tags wanted of it, or None for all; ``*`` stands for every collection."""

OptionalText = Annotated[str | None, WithJsonSchema({"type": ["null", "string"]})]
OptionalPort = Annotated[
    int | None,
    Field(ge=1, le=65535),
    BeforeValidator(lambda port: int(port) if isinstance(port, str) and port.isdecimal() else port),
    WithJsonSchema({"type": ["null", "integer"], "minimum": 1, "maximum": 65535}),
]
"""MilvusDM took it in quotes, too."""
OptionalSize = Annotated[
    Annotated[int, Field(ge=1)] | None, WithJsonSchema({"type": ["null", "integer"], "minimum": 1})
]


def parse_selection(value: Any) -> Any:
    """``source_collection`` in any of its spellings as an object.

    A name, a list of names, ``*``, or a mapping of names to a tag, a list of tags, or null for all. Raises
    ConfigurationError where a list is empty: that it stands for all is what a filter that found nothing doesn't mean.
    """
    if isinstance(value, str):
        return {value: None} if value else value
    if isinstance(value, list | tuple):
        return dict.fromkeys(value) if all(isinstance(name, str) for name in value) else value
    if isinstance(value, Mapping):
        return {name: _parse_tags(name, tags) for name, tags in value.items()}
    return value


def _parse_tags(name: Any, tags: Any) -> Any:
    if isinstance(tags, str):
        return [tags]
    if tags is None or tags:
        return tags
    raise ConfigurationError(
        f"no partition of collection {name!r} is named",
        expected="tags, or null for all of its partitions",
        found=repr(tags),
        cure="Name a partition, or leave the collection out.",
    )


class Params(BaseModel):
    """The params of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    written_folders: ClassVar[tuple[str, ...]] = ()
    """The params that name a folder to write into."""

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        """What can't be at the same time in params that may have other faults, a line each."""
        return ()


AnyParams = TypeVar("AnyParams", bound=Params)


def read_params(model: type[AnyParams], params: Mapping[str, Any], *, where: object = None) -> AnyParams:
    """Check params, and tell all their faults at once. Raises ConfigurationError.

    ``where``: the file that they stand in.
    """
    faults = list(model.contradictions(params))
    try:
        read = model.model_validate(dict(params))
    except ValidationError as error:
        faults = [*_faults(model, error), *faults]
    if not faults:
        return read
    raise ConfigurationError(
        "\n".join([_refusal(where), *(f"- {fault}" for fault in faults)]),
        cure="Correct them and start again; nothing has been read or written.",
    )


def _refusal(where: object) -> str:
    return "these params can't be used:" if where is None else f"these params of {where} can't be used:"


def _faults(model: type[Params], error: ValidationError) -> Iterable[str]:
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            yield f"{name}: there is no such param{_hint(model, fault['loc'])}"
        elif fault["type"] == "missing":
            yield f"{name}: required"
        else:
            yield f"{name}: {fault['msg'].removeprefix('Value error, ')}, found {_shown(fault['input'])}"


def _shown(value: Any) -> str:
    """A value, but not what one holds: a block that was indented wrong may hold a password."""
    return repr(value) if isinstance(value, str | int | float | None) else type(value).__name__


def _hint(model: type[Params], place: tuple[int | str, ...]) -> str:
    """What the name at ``place`` may have been meant to be."""
    name, known = str(place[-1]), _names_beside(model, place)
    if name == "mysql_parameter" and "mysql_conn_id" in known:
        return "; make an Airflow connection of it and give its id as mysql_conn_id"
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _names_beside(model: type[Params], place: tuple[int | str, ...]) -> list[str]:
    """The names that a param, or a block inside one, knows where ``place`` ends."""
    kind: Any = model
    for part in place[:-1]:
        is_block = isinstance(kind, type) and issubclass(kind, Params)
        kind = kind.model_fields[part].annotation if is_block else get_args(kind)[-1]
    return list(kind.model_fields)
