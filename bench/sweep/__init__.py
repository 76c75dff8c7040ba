"""Every causal architecture that transformers lists, tried with a tiny random model; `python -m bench.sweep`."""
