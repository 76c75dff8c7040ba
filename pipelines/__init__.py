"""Kubeflow pipelines: wiring only, and the ready configurations."""
