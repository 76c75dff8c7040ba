"""Whether a scheduled run trains: what is new and how it differs (``monitors``), and the decision (``decide``).

``history`` is what MLflow knows of earlier nights: what was learned and tried. ``endings``: how a run ended, and what
there is to tell of it.
"""
