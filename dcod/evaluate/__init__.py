"""Answers become figures: recorded answers (``responses``), summaries of them, and their statistics.

``summaries`` makes the figures of graded answers; a new one is a key there, which summary, MLflow and report show by
itself. ``results`` reads a results folder back. ``statistics`` has intervals and paired tests, and knows arrays alone.
Who asks the model and grades its answers is ``dcod.stages.evaluate``, with ``dcod.engines``, ``dcod.benchmarks`` and
``dcod.grading``.
"""
