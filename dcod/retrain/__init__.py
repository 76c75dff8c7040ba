"""Whether a scheduled run trains: what is new (``pools``), how it differs (``monitors``), the decision (``decide``).

``history`` is what MLflow knows of earlier nights: what was learned and tried. ``endings``: how a run ended, and what
there is to tell of it.
"""
