"""What every forked process has imported already; nothing here opens a store or starts a thread."""

import importlib
import os
import pkgutil

import dcod
from dcod.tracking import store

for name, value in store.ENVIRONMENT.items():
    os.environ.setdefault(name, value)

for module in pkgutil.walk_packages(dcod.__path__, "dcod."):
    if not module.name.startswith(("dcod.benchmarks.", "dcod.engines.vllm", "dcod.engines.openai")):
        importlib.import_module(module.name)

for name in (
    "accelerate",
    "kfp.dsl.executor_main",
    "kfp.local",
    "kfp.local.subprocess_task_handler",
    "matplotlib.backends.backend_agg",
    "mlflow.artifacts",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking",
    "dcod_pipelines.distill",
    "dcod_pipelines.local",
    "dcod_pipelines.retrain",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
):
    importlib.import_module(name)
