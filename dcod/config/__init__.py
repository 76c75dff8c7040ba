"""What a user may set, checked and explained. pydantic alone; it reads no trace and no model.

``schema`` holds the sections, one class each, and ``load`` reads files and overrides; ``teach``, ``retrain`` and
``cluster`` are sections big enough for a file, ``base`` what all sections share. A new key goes into its section.
"""

from dcod.config.load import load_config, parse_config
from dcod.config.schema import (
    BenchmarkConfig,
    Config,
    CorrectionConfig,
    EngineConfig,
    EvaluateConfig,
    IngestConfig,
    LoraConfig,
    LossConfig,
    PromoteConfig,
    Section,
    StudentConfig,
    TrackingConfig,
    TrainConfig,
)

__all__ = [
    "BenchmarkConfig",
    "Config",
    "CorrectionConfig",
    "EngineConfig",
    "EvaluateConfig",
    "IngestConfig",
    "LoraConfig",
    "LossConfig",
    "PromoteConfig",
    "Section",
    "StudentConfig",
    "TrackingConfig",
    "TrainConfig",
    "load_config",
    "parse_config",
]
