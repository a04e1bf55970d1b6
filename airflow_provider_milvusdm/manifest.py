"""Manifests: the dataclasses that pass between tasks, as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

Manifest = TypeVar("Manifest")


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def to_json(manifest: Any) -> Any:
    """A manifest as JSON values."""
    return _adapter(type(manifest)).dump_python(manifest, mode="json")


def from_json(kind: type[Manifest], value: Any) -> Manifest:
    """JSON values as the manifest they were made of."""
    manifest: Manifest = _adapter(kind).validate_python(value)
    return manifest


def parse_text(value: Any) -> Any:
    """An operator's argument, which a template renders as JSON text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
