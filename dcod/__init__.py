"""dcod: distribution-corrected offline distillation of reasoning into small language models."""

__version__ = "0.1.0"
