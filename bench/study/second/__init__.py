"""The study's second protocol: best temperatures, tuned baselines, fresh seeds; see README.md beside this file."""
