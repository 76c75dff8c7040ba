"""Every page and card: a run's report, the model card, the data card, pages over traces. Shows, decides nothing.

A new figure of a report goes into ``parts`` or ``figures``; html, style and script lie in ``assets``.
"""
