"""Questions put to a teacher (``questions``), and its attempts, kept one by one (``attempts``)."""
