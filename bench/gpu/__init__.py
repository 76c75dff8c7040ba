"""A real card in eight minutes: what is right and how fast, in the order of its worth; `bench/gpu/run.sh`."""
