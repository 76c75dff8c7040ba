"""The method, docs/method.md as code: corrections, the weights made of them, losses. torch and ``config`` alone.

A new correction is one entry in ``corrections``, a new loss one in ``losses``; ``weighting`` plans and bounds them.
This package imports nothing here, since its modules load torch.
"""
