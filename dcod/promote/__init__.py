"""The gate: whether a student is really better, and what becomes of it.

``rules``: all rules with their words, a new one as well. ``gate``: applies them. ``compare``: the paired statistics.
``decision``: what comes out. ``promote``: lease, budget, registration and the champion's alias.
"""
