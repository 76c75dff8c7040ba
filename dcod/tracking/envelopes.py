"""MLflow's own files around a checkpoint: ``MLmodel``, requirements, an example of a request.

Written here, not by ``mlflow.transformers.save_model``: given a path, that fails with transformers 5.23 (which names
its pipelines by text), copies the weights once more, and guesses at a licence. ``mlflow.transformers.load_model`` reads
the result; pyfunc answers chat requests as the evaluation asked.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import dcod
from dcod.errors import UserError
from dcod.models import loading

if TYPE_CHECKING:
    from mlflow.models import Model

_REQUIREMENTS = ("torch", "transformers", "safetensors", "tokenizers")
# Loaded by who serves, by no stage: so it is no whole name, which would make it a part of every stage's code.
_SERVING = ".".join(("dcod", "engines", "serving"))
_EXAMPLE = {"messages": [{"role": "user", "content": "What is 3 + 4 + 5?"}]}


def checkpoint_files(folder: Path) -> list[Path]:
    """The files of a model folder that belong to the model; see :data:`dcod.models.loading.MODEL_FILES`."""
    return sorted({path for pattern in loading.MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def envelope(
    folder: Path, scratch: Path, model_id: str, run_id: str, location: str, serving: Mapping[str, Any]
) -> Path:
    """Makes the files.

    Args:
        folder: the checkpoint.
        scratch: an empty folder.
        model_id: of the logged model.
        run_id: that made it.
        location: of its artifacts.
        serving: how it is asked where a request says nothing; see :mod:`dcod.engines.serving`.

    Returns:
        The folder of the files.
    """
    made = scratch / "envelope"
    (made / "components" / "tokenizer").mkdir(parents=True)
    for path in checkpoint_files(folder):
        if not path.name.endswith((".safetensors", ".safetensors.index.json")) and path.name not in loading.UNDIGESTED:
            shutil.copy(path, made / "components" / "tokenizer" / path.name)
    _described(folder, location, model_id, run_id, serving).save(str(made / "MLmodel"))
    (made / "input_example.json").write_text(json.dumps(_EXAMPLE) + "\n", encoding="utf-8")
    (made / "serving_input_example.json").write_text(json.dumps(_EXAMPLE) + "\n", encoding="utf-8")
    needs = [f"mlflow=={importlib.metadata.version('mlflow')}"]
    needs += [f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS]
    needs += [f"dcod=={dcod.__version__}"]
    python = platform.python_version()
    (made / "requirements.txt").write_text("\n".join(needs) + "\n")
    pip = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (made / "python_env.yaml").write_text(yaml.safe_dump(pip, sort_keys=False))
    conda = {
        "name": "mlflow-env",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": needs}],
    }
    (made / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False))
    return made


def _described(folder: Path, location: str, model_id: str, run_id: str, serving: Mapping[str, Any]) -> Model:
    """The model as MLmodel says it: two ways to load it, what goes in and out."""
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA

    model = Model(
        artifact_path=location,
        model_uuid=model_id,
        run_id=run_id,
        model_id=model_id,
        signature=ModelSignature(inputs=CHAT_MODEL_INPUT_SCHEMA, outputs=CHAT_MODEL_OUTPUT_SCHEMA),
        saved_input_example_info={
            "artifact_path": "input_example.json",
            "serving_input_path": "serving_input_example.json",
            "type": "json_object",
        },
        metadata={"task": "llm/v1/chat"},
    )
    model.add_flavor(
        "transformers",
        transformers_version=importlib.metadata.version("transformers"),
        code=None,
        task="text-generation",
        instance_type="TextGenerationPipeline",
        pipeline_model_type=_architecture(folder),
        source_model_name="student",
        model_binary="model",
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
    )
    pyfunc.add_to_model(
        model,
        loader_module=_SERVING,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_config=dict(serving),
    )
    model.model_size_bytes = sum(path.stat().st_size for path in checkpoint_files(folder))
    return model


def _architecture(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = config.get("architectures") or []
    if not names:
        raise UserError(f"{folder}/config.json: no `architectures` in it, so MLflow cannot describe the model")
    return str(names[0])
