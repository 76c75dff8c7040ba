"""Questions put to a teacher (``questions``), and its attempts, kept one by one (``attempts``).

``lacking`` finds the prompts that have too few verified traces, which a run asks about in its midst. A new source of
questions goes into ``questions``, a new column of what an attempt leaves into ``attempts``. Who asks the teacher is
``dcod.stages.teach``; which engines can is ``dcod.engines``, and how it answers ``dcod.config.teach``.
"""
