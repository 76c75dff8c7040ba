"""Is an answer right: found in a text (``extract``), compared (``equality``), judged (``verdict``), within limits.

How responses mark answers is in ``boxes``, how they state them in ``stated``, what ends a turn in ``ends``. A new
spelling of an answer goes into ``spelling``, a new unit or number into ``quantities``, a new end of an instruction into
``instructions``. Tags of thoughts and marks of turns are tables here: traces use them as well.
``verdict.VERSION`` moves with every change that can change a verdict.
"""

from dcod.grading.verdict import VERSION, Grade, equivalent, find, grade, grade_many, in_parallel

__all__ = ["VERSION", "Grade", "equivalent", "find", "grade", "grade_many", "in_parallel"]
