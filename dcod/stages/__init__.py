"""One file a verb: configuration and folders in, a folder and plain metrics out; ``execute`` runs one of them.

A new stage is a file with ``run`` and its entry in ``catalogue``. Stages use the library, never the other way round.
``component`` is what a Kubeflow component calls.
"""
