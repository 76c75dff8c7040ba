"""Kubeflow components: one thin file a verb, its signature and one call into dcod.stages.

They run in dcod's own image, which holds kfp and dcod, so nothing is installed at run time.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    IMAGE = f"dcod:{version('dcod')}"
except PackageNotFoundError:  # a source tree that was not installed
    IMAGE = "dcod:dev"
