"""A model folder and what is computed with it: loading and its checks, batches, the head, attention. torch.

``loading`` opens a student, ``fitting`` refuses what does not fit. ``heads`` leads from hidden states to logits,
``fused_head`` from there to the loss and its gradient; ``selfcheck`` recognises a student's head and holds our numbers
against its own forward pass, ``layouts`` says which layout is exact. A setting of the GPU's arithmetic goes into
``matmul`` or ``attention``. This package imports nothing here, since its modules load torch.
"""
