"""Runs (``runs``), logged models and the registry (``registry``), lineage, the store. Alone imports mlflow.

What is written of a run goes through ``runs``, its output through ``outputs``; what asks the registry stands in
``registry``; what a run cost is added up in ``money``. This door imports ``logs`` alone: a stage that only logs
has no more in its digest.
"""

from dcod.tracking.logs import SOURCE, Log, NullLog, flatten

__all__ = ["SOURCE", "Log", "NullLog", "flatten"]
