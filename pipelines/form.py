"""The inputs of a pipeline, as Kubeflow's form shows them: typed, with a default and a sentence each."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kfp import dsl

from dcod_pipelines import frames

if TYPE_CHECKING:
    from dcod.config import Config

CONFIG = "The whole configuration, JSON or YAML; a field below counts where it was changed from what it began with."


def pipeline(name: str, description: str, settings: Config) -> Callable[[Callable[[dict[str, Any]], None]], Any]:
    """Makes a pipeline of a function of its inputs by name: ``config``, and those of :mod:`dcod.config.inputs`.

    Args:
        name: of the pipeline.
        description: of it.
        settings: the configuration that the form begins with.
    """
    from dcod.config.inputs import INPUTS, values_of

    # What differs from dcod's own defaults: the form shows it, and it stays readable.
    own = json.dumps(settings.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    values = values_of(settings)

    def made(build: Callable[[dict[str, Any]], None]) -> Any:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        fields = [inspect.Parameter("config", kind, annotation=str, default=own)]
        for each in INPUTS:
            fields.append(inspect.Parameter(each.name, kind, annotation=each.kind, default=values[each.name]))

        def body(*given: Any) -> None:
            build(dict(zip((each.name for each in fields), given, strict=True)))

        told = "".join(f"    {each.name}: {each.text}\n" for each in INPUTS)
        body.__name__ = build.__name__
        body.__doc__ = f"{description}\n\nArgs:\n    config: {CONFIG}\n{told}"
        body.__signature__ = inspect.Signature(fields)  # type: ignore[attr-defined]
        with frames.quick():
            return dsl.pipeline(name=name, description=description)(body)

    return made
