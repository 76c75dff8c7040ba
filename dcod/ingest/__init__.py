"""Rows become traces or are refused: each examined alone (``examine``), then all together (``assemble``).

A new reason for the quarantine is raised in ``examine``; what needs all rows, such as ``duplicates``, stands beside.
"""
