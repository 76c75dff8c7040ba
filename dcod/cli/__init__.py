"""The command line: ``dcod VERB --config FILE section.key=value …``. No logic; only here kfp is imported, lazily.

A verb stands in ``begin`` (init, check, config), ``stages`` (one stage), ``arms`` (what compares), ``runs`` (whole runs
and what they left) or ``cluster`` (Kubeflow).
"""

from dcod.cli.command import app, main

__all__ = ["app", "main"]
