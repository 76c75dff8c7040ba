"""What a wheel holds: dcod, and two folders under names that no folder beside a user's command has."""

from setuptools import find_packages, setup

RENAMED = {"dcod_components": "components", "dcod_pipelines": "pipelines"}
setup(packages=[*find_packages(include=["dcod", "dcod.*"]), *RENAMED], package_dir=RENAMED)
