"""What an API server knows of a kind: fields that its schema has not, it drops with a warning at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_OPEN = "x-kubernetes-preserve-unknown-fields"


def unknown_fields(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Paths of the fields that a schema does not have.

    Args:
        value: an object, or a part of it.
        schema: its OpenAPI schema, as a CustomResourceDefinition or the server's discovery has it.
        path: of ``value``.
    """
    if isinstance(value, Mapping):
        fields, further = schema.get("properties", {}), schema.get("additionalProperties")
        if not fields and not further:  # an object of any fields, such as the metadata of a custom kind
            return
        for key, inner in value.items():
            where = f"{path}.{key}".lstrip(".")
            if key in fields:
                yield from unknown_fields(inner, fields[key], where)
            elif isinstance(further, Mapping):
                yield from unknown_fields(inner, further, where)
            elif not further and not schema.get(_OPEN):
                yield where
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from unknown_fields(inner, schema.get("items", {}), f"{path}[{number}]")
