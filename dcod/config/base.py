"""What every section of the configuration is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from dcod.errors import holds_secret

SECRET = "secret"  # the type of an error whose input is shown to nobody

MOST = 2**40  # of a count or a size: a mistake above it, and far below what overflows
Positive = Annotated[int, Field(ge=1, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Few = Annotated[int, Field(ge=1, le=10_000)]  # of what is held at once: processes, pods, samples, rounds
Instruction = Literal["number", "boxed", "as_is"]  # below a problem: dcod.traces.prompts.INSTRUCTIONS


class Section(BaseModel):
    """Base of all sections: strict types, no unknown keys, immutable; no passwords, since it is kept and shown."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @field_validator("*")
    @classmethod
    def _no_secret(cls, value: Any) -> Any:
        if any(holds_secret(text) for text in _texts(value)):
            raise PydanticCustomError(
                SECRET,
                "holds a password or key, and a configuration is kept and shown: take it out, and put it into the "
                "environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, OPENAI_API_KEY, "
                "AWS_SECRET_ACCESS_KEY, …) or, on a cluster, into a secret (cluster.secrets)",
            )
        return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
