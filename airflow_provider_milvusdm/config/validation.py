"""How params are checked against the model of a job, whether they come from a DAG, ``--conf`` or a YAML file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from airflow_provider_milvusdm.exceptions import ConfigurationError

Selection = dict[str, list[str] | None]
"""Partition tags by collection, or None for all partitions; the name ``*`` stands for all collections."""

OptionalText = Annotated[str | None, WithJsonSchema({"type": ["null", "string"]})]
OptionalPort = Annotated[
    int | None,
    Field(ge=1, le=65535),
    BeforeValidator(lambda port: int(port) if isinstance(port, str) and port.isdecimal() else port),
    WithJsonSchema({"type": ["null", "integer"], "minimum": 1, "maximum": 65535}),
]
"""As in MilvusDM, it may also be text."""
OptionalSize = Annotated[
    Annotated[int, Field(ge=1)] | None, WithJsonSchema({"type": ["null", "integer"], "minimum": 1})
]

PASSWORD = re.compile(r"(?<=://)([^/@\s:]*):.*@")


def parse_selection(value: Any) -> Any:
    """``source_collection`` as a :data:`Selection`.

    ``value``: lines, or a list of texts, each a collection (``news``), a partition of it (``news/2021-03``) or ``*``;
    or a mapping of names to a tag, a list of tags, or null for all. Any other value is returned as it is, for the model
    to refuse. Raises ConfigurationError if a list of tags is empty: it is usually the result of a filter that found
    nothing, and must not stand for all partitions. Raises it also for a collection that is listed as a whole and by
    its partitions, because the mode ``overwrite`` does different things to them.
    """
    if isinstance(value, str):
        return _parse_lines(value.splitlines())
    if isinstance(value, list | tuple):
        return _parse_lines(value) if all(isinstance(line, str) for line in value) else value
    if isinstance(value, Mapping):
        return {name: _parse_tags(name, tags) for name, tags in value.items()}
    return value


def _parse_lines(lines: Iterable[str]) -> Selection:
    """Collections and ``collection/partition``; Milvus 1.x allows no slash and no space at the end in their names."""
    selection: Selection = {}
    for line in filter(None, map(str.strip, lines)):
        name, has_tag, tag = line.partition("/")
        tags = selection.setdefault(name, [] if has_tag else None)
        if (tags is None) == bool(has_tag):
            raise ConfigurationError(
                f"collection {name!r} is listed as a whole and by its partitions",
                expected="one of the two",
                found=line,
                cure=f"Remove the line {name}, or the lines {name}/….",
            )
        if tags is not None and tag not in tags:
            tags.append(tag)
    return selection


def _parse_tags(name: Any, tags: Any) -> Any:
    if isinstance(tags, str):
        return [tags]
    if tags is None or tags:
        return tags
    raise ConfigurationError(
        f"the list of partitions of collection {name!r} is empty",
        expected="tags, or null for all partitions",
        found=repr(tags),
        cure="Add a tag, or remove the collection.",
    )


class Params(BaseModel):
    """The params of a job."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    written_folders: ClassVar[tuple[str, ...]] = ()
    """The params whose values are folders that a run writes to."""

    @classmethod
    def contradictions(cls, params: Mapping[str, Any]) -> Iterable[str]:
        """What is wrong with params that exclude each other, one line each; ``params`` may have other faults too."""
        return ()


AnyParams = TypeVar("AnyParams", bound=Params)


def read_params(model: type[AnyParams], params: Mapping[str, Any], *, where: object = None) -> AnyParams:
    """Check params against a model.

    ``where``: the file that they are from. Raises ConfigurationError, with all faults of the params.
    """
    faults = list(model.contradictions(params))
    try:
        read = model.model_validate(dict(params))
    except ValidationError as error:
        faults = [*_faults(model, error), *faults]
    if not faults:
        return read
    raise ConfigurationError(
        "\n".join([f"{_subject(where)} can't be used:", *(f"- {fault}" for fault in faults)]),
        cure="Correct them and start again; nothing was read or written.",
    )


def _subject(where: object) -> str:
    return "these params" if where is None else f"these params of {where}"


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
    """A plain value; of a block only its type, because one that is indented wrong may hold a password."""
    return repr(without_password(value)) if isinstance(value, str | int | float | None) else type(value).__name__


def without_password(value: Any) -> Any:
    """The value; of a URL with a login, which no param takes, the password is not repeated."""
    if isinstance(value, str):
        return PASSWORD.sub(r"\1:***@", value)
    if isinstance(value, Mapping):
        return {name: without_password(item) for name, item in value.items()}
    return list(map(without_password, value)) if isinstance(value, list | tuple) else value


def _hint(model: type[Params], path: tuple[int | str, ...]) -> str:
    """A suggestion for the unknown name at the end of ``path``, or empty text."""
    name, known = str(path[-1]), _known_names(model, path)
    if name == "mysql_parameter" and "mysql_conn_id" in known:
        return "; create an Airflow connection from it, and set mysql_conn_id to its id"
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _known_names(model: type[Params], path: tuple[int | str, ...]) -> list[str]:
    """The names that the model allows at the end of ``path``, in a block if the path leads into one."""
    kind: Any = model
    for part in path[:-1]:
        is_block = isinstance(kind, type) and issubclass(kind, Params)
        kind = kind.model_fields[part].annotation if is_block else get_args(kind)[-1]
    return list(kind.model_fields)
