"""What a cluster speaks: Kubernetes, TrainJobs, Prometheus, a webhook. Alone imports kubernetes.

``placing`` resolves image, size and GPUs of a stage; ``trainjobs`` writes them into the pods of a TrainJob,
``dcod_pipelines.pods`` into all others. ``webhook`` signs and sends; how a run ended is told by
``dcod.retrain.endings``, whose run it was by ``_tell`` in ``dcod.stages.component``.
"""
