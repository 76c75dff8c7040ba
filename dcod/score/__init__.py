"""What the student thinks of the traces: log-probs and entropies in parts that a killed run keeps.

The figures that are reported of them (``Totals``, ``Drift``) are in ``dcod.stages.score``.
"""
