"""What a user may set, checked and explained. pydantic alone; it reads no trace and no model.

``schema`` holds the sections, one class each, and ``load`` reads files and overrides; ``teach``, ``train``, ``retrain``
and ``cluster`` (``gpu``, ``pod``) are sections big enough for a file, ``arms`` has the list
that `train.arms=auto` tries, ``base`` what all sections share. A new key
goes into its section, with a description and, where its default does not show how it is set, an example: ``reference``
makes the page docs/configuration.md and the comments of `dcod config` of them.
"""

from dcod.config.load import load_config, parse_config
from dcod.config.losses import CorrectionConfig, LossConfig
from dcod.config.schema import (
    BenchmarkConfig,
    Config,
    EngineConfig,
    EvaluateConfig,
    IngestConfig,
    PromoteConfig,
    Section,
    StudentConfig,
    TrackingConfig,
)
from dcod.config.train import LoraConfig, TrainConfig

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
