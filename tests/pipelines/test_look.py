"""The task that looks runs here, too, and what it finds is what the next one's pod asks for."""

from pathlib import Path

from kfp import dsl, local

from dcod.config import Config
from dcod_components.fetch import fetch
from dcod_components.look import look
from dcod_components.settle import settle
from dcod_pipelines.pods import Pods
from tests.tracked import fresh_store


def test_what_was_found_sizes_the_pod_and_the_local_runner_takes_it(tmp_path: Path, tiny_student: Path) -> None:
    config = Config.model_validate(
        {
            "student": {"model": str(tiny_student)},
            "evaluate": {"benchmarks": [{"name": "gsm8k"}]},
            "tracking": fresh_store(tmp_path / "store").model_dump(),
            "cluster": {"gpu": {"count": 2, "node_selector": {"gpu": "h200"}}, "retries": 0},
        }
    )
    place = Pods(config.cluster)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "root"), raise_on_error=True)

    @dsl.pipeline
    def looks(config: str) -> dict:  # type: ignore[type-arg]
        settled = settle(config=config, compiled="", pipeline="p").outputs["settled"]
        start = fetch(config=settled, pipeline="p", which="start").outputs["model"]
        found = look(
            config=settled, stage="evaluate", inputs="student", first=start, second=start, **place.sizes("evaluate")
        )
        place.look(found, "evaluate", "look: evaluate start")
        again = place.task(fetch(config=settled, pipeline="p", which="start"), "fetch", gpu=True, look=found)
        again.after(found)
        return found.outputs["nodes"]  # type: ignore[no-any-return]

    assert looks(config=config.to_json()).output == {"gpu": "h200"}
    assert place.sizes("evaluate")["small"] == {
        **config.cluster.pod.model_dump(), "gpus": "0", "nodes": {},
    }  # fmt: skip
