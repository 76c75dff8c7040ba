"""The gate: whether a student is really better, and what becomes of it.

``gate``: all rules and reasons, a new one as well. ``compare``: the paired statistics. ``decision``: what comes out.
``promote``: lease, budget, registration and the champion's alias.
"""
