"""Training throughput and peak memory against others, in one run; `python -m bench.training`."""
