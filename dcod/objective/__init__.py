"""The method, docs/method.md as code: corrections, the weights made of them, losses. torch and ``config`` alone.

A new correction is a file in ``corrections``. A new loss is a formula and its entry in ``losses``, and its name joins
dcod/config/losses.py. Which of the arms of dcod/config/arms.py suit given traces is said in ``arms``. ``step_scores``
is what a formula sees, ``weighting`` plans and bounds what it says, ``doubts`` lists what nothing is to be expected of
where the student knows little. ``price`` is what comparing arms costs. This package imports nothing here, since its
modules load torch.
"""
