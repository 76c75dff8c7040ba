"""What a cluster speaks: Kubernetes, TrainJobs, Prometheus, a webhook. Alone imports kubernetes.

``placing`` resolves image, size and GPUs of a stage; ``trainjobs`` writes them into the pods of a TrainJob,
``dcod_pipelines.pods`` into all others. ``webhook`` signs and sends; what it sends is composed in
``dcod.retrain.endings``.
"""
