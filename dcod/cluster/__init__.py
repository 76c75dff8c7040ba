"""What a cluster speaks: Kubernetes, TrainJobs, Prometheus, a webhook. Alone imports kubernetes.

``trainjobs`` says what the pods of a TrainJob get, ``dcod_pipelines.pods`` what all others get. ``webhook`` signs and
sends; what it sends is composed in ``dcod.retrain.endings``.
"""
