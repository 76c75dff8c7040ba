"""The gate: whether a student is really better, its rules and reasons (``gate``), and paired comparison (``compare``).

A new rule goes into ``gate``.
"""
