"""Whether a scheduled run trains: what is new and how it differs (``monitors``), and the decision (``decide``)."""
