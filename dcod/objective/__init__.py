"""The method, docs/method.md as code: corrections, the weights made of them, losses. torch and ``config`` alone.

A new correction is one entry in ``corrections``, with what it needs in ``family``; a new loss one in ``losses``; the
names of both join dcod/config/losses.py. ``weighting`` plans and bounds them.
This package imports nothing here, since its modules load torch.
"""
