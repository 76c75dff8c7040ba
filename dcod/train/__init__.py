"""The loop: batches of scored traces in (``sets``), steps (``step``), a student and its checkpoints out.

What a checkpoint holds is written in ``checkpoints``; ``lora``, ``masters`` and ``parallel`` change what is stepped.
This package imports nothing here, since its modules load torch.
"""
