"""How the machine fares while a stage works: CPU, memory, disk, network and GPUs, as MLflow's system metrics."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from dcod.errors import one_line
from dcod.tracking.runs import StageRun

EVERY_S = 30.0
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(log: StageRun, every_s: float = EVERY_S) -> Iterator[None]:
    """Records them in a stage's run for the length of a block, where it is on a server.

    MLflow writes from a thread of its own; a file of sqlite would be locked for it by us, and for us by it. GPUs are
    among them where the package nvidia-ml-py (or pyrsmi) is there. What fails here fails no stage.
    """
    if not log.tracker.remote:
        yield
        return
    monitor = None
    try:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(log.run_id, every_s, tracking_uri=log.tracker.config.uri)
        monitor.start()
    except Exception as error:
        _log.warning("the machine is not watched: %s", one_line(error)[:200])
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()
