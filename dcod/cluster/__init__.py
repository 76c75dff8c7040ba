"""What a cluster speaks: Kubernetes, TrainJobs, Prometheus, a webhook. Alone imports kubernetes."""
