"""Look, on a CPU, whether a stage's output is there already: then its pod needs no GPU."""

from typing import NamedTuple

from kfp import dsl

from dcod_components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def look(
    config: dsl.Input[dsl.Artifact],
    stage: str,
    small: dict,
    large: dict,
    inputs: str,
    first: dsl.Input[dsl.Artifact],
    second: dsl.Input[dsl.Artifact],
    few_shot: bool = False,
    shard: str = "",
    arm: str = "",
) -> NamedTuple("Pod", [("gpus", str), ("cpu", str), ("cpu_limit", str), ("memory", str), ("nodes", dict)]):  # type: ignore[valid-type]
    """What ``stage`` asks Kubernetes for: ``small`` where its output is there, else ``large``.

    ``inputs`` names what of ``first`` and ``second`` decides its output, in that order, with a comma between.
    """
    from collections import namedtuple

    from dcod.stages.component import is_there

    paths = dict(zip(inputs.split(","), (first.path, second.path), strict=False))
    options = {"few_shot": few_shot} if stage == "evaluate" else {}
    pod = small if is_there(stage, config.path, paths, options, shard=shard, arm=arm) else large
    return namedtuple("Pod", "gpus cpu cpu_limit memory nodes")(**pod)
