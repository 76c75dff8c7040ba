"""Runs (``runs``), logged models and the registry (``registry``), lineage, the store. Alone imports mlflow.

What is written of a run goes through ``runs``, its output through ``outputs``; what asks the registry stands in
``registry``; what a run cost is added up in ``money``.
"""

from dcod.tracking.logs import SOURCE, Log, NullLog, flatten
from dcod.tracking.runs import StageRun, Tracker

__all__ = ["SOURCE", "Log", "NullLog", "StageRun", "Tracker", "flatten"]
