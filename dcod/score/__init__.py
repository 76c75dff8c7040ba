"""What the student thinks of the traces: log-probs and entropies in parts that a killed run keeps.

``scores`` is the stored set, ``parts`` the scoring of it, ``fields`` what is recorded where it is asked for. ``frozen``
makes weights that stand before a training begins: by students of the other half (``crossfit``), or by how often a plain
student is right in the manner of a trace (``asking``, ``success``); a third way goes beside them, on what they share
(``preparing``). ``outlook`` foretells what a correction could do, ``exposure`` measures whether errors compound.
The figures that are reported of them (``Totals``, ``Drift``) are in ``dcod.stages.score``.
"""
