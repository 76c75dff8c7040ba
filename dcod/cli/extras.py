"""Which extra of dcod holds a package: said where a verb needs one that is not installed."""

from __future__ import annotations

EXTRAS = {  # by the name that is imported; tests/test_packaging.py holds it to pyproject.toml
    **dict.fromkeys(
        ("cronsim", "kfp", "kfp_server_api", "kubeflow_trainer_api", "kubernetes", "urllib3"),
        "kubeflow",
    ),
    "mlflow": "mlflow",
    **dict.fromkeys(("boto3", "botocore"), "s3"),
    **dict.fromkeys(
        ("accelerate", "huggingface_hub", "joblib", "numpy", "peft", "pyarrow", "safetensors", "torch", "transformers"),
        "train",
    ),
    "zstandard": "train",
    **dict.fromkeys(
        ("datasets", "datasketch", "httpx2", "jinja2", "latex2sympy2_extended", "markupsafe", "math_verify"),
        "evaluate",
    ),
    **dict.fromkeys(("matplotlib", "openai", "prometheus_client", "py3langid", "scipy", "sympy"), "evaluate"),
    "langdetect": "ifeval",
    **dict.fromkeys(("gguf", "reasoning_gym"), "quickstart"),
    "vllm": "vllm",
}


def wanted(module: str) -> str:
    """What is to be said where a module is missing; "" for one that is in no extra."""
    name = module.partition(".")[0]
    extra = EXTRAS.get(name)
    return f"this needs {name}, which is not installed: pip install 'dcod[{extra}]'" if extra else ""
