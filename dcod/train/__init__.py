"""The loop (``loop``): scored traces in (``sets``), steps of a ``learner`` (``step``), a student and checkpoints out.

What a run carries, and a checkpoint holds, is a field of ``state``; tensors and places are in ``checkpoints``.
``lora``, ``masters`` and ``parallel`` change what is stepped.
This package imports nothing here, since its modules load torch.
"""
