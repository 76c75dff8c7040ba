"""The method, docs/method.md as code: corrections, the weights made of them, losses. torch and ``config`` alone.

A new correction is a formula and its entry in ``corrections``, a new loss the same in ``losses``; the names of both
join dcod/config/losses.py. ``step_scores`` is what a formula sees, ``weighting`` plans and bounds what it says,
``doubts`` lists what nothing is to be expected of where the student knows little.
This package imports nothing here, since its modules load torch.
"""
