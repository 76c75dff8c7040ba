"""The gate: whether a student is really better, and what becomes of it.

``rules``: all rules with their names and words, a new one as well. ``gate``: applies them; where the student is the
champion itself, it says only that. ``compare``: the paired statistics. ``decision``: what comes out. ``promote``:
lease, counting of tests, registration and the champion's alias.
"""
