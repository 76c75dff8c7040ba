"""Answers become figures: recorded answers (``responses``), summaries of them, and their statistics."""
