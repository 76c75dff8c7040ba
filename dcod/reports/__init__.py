"""Every page and card: a run's report, the model card, the data card, pages over traces. Shows, decides nothing.

``report`` is a run's page: answers and how steady they are; its ``sections`` tell training, data and cost. A picture
goes into ``figures``; templates, style and script lie in ``assets``. Figures of answers are made in ``evaluate``.
"""
