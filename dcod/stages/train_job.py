"""Train on several nodes: submits a TrainJob, follows it, and takes its student over. Not run on a cluster yet.

1. put scores, start and configuration where all nodes reach them (``cluster.storage``);
2. submit the job under a name that follows from the pipeline run: an attempt that starts again finds it;
3. follow its state and the log of its first node; training metrics in the log go to MLflow;
4. when it is complete, fetch the student; in any other end, say which and why;
5. when this pod is told to stop, delete the job, unless the pod is only moved away (preempted, drained, evicted):
   then the next attempt follows the job on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dcod.cluster.kubernetes import Kube, own_pod
from dcod.cluster.placing import placement
from dcod.cluster.trainjobs import Follower, TrainJobError, build, job_name
from dcod.config import Config
from dcod.config.cluster import ClusterConfig
from dcod.errors import StoppedError, UserError
from dcod.stages import handover, train, train_node
from dcod.stages.handover import ERROR, OUTPUT
from dcod.storage import parts
from dcod.storage.stopping import stopping

if TYPE_CHECKING:
    from dcod.tracking import Log


def source_digests(config: Config) -> dict[str, str]:
    """The number of ranks counts: sums of floats come in another order."""
    return {"ranks": f"{config.cluster.train.num_nodes}x{max(1, _gpus(config))}"}


def _gpus(config: Config) -> int:
    """Of a node."""
    return placement(config.cluster, "train", gpu=True).gpus


def run(config: Config, out: Path, log: Log, *, scores: Path, student: Path, pipeline: str) -> dict[str, float]:
    """Trains a student by a TrainJob; see the module."""
    cluster = config.cluster
    name = job_name(pipeline)
    work = f"{cluster.storage.rstrip('/')}/trainjobs/{name}"
    steps: set[int] = set()

    def show(line: str) -> None:
        handover.relay(line, log, steps)

    follower = Follower(Kube(cluster.namespace), name, show)
    with _stopping(follower):
        parts.copy(scores, f"{work}/scores")
        parts.copy(student, f"{work}/student")
        bare = config.model_copy(update={"cluster": ClusterConfig()})  # a node needs nothing of it
        (out / "config.json").write_text(bare.to_json(), encoding="utf-8")
        parts.copy(out / "config.json", f"{work}/config.json")
        (out / "config.json").write_text("{}", encoding="utf-8")
        parts.copy(out / "config.json", f"{work}/{ERROR}")  # that of an earlier attempt must not speak
        (out / "config.json").unlink()
        running = follower.start(build(cluster, name, pipeline, work, train_node.__name__))
        print(f"TrainJob {name} in {cluster.namespace}: {'found running' if running else 'submitted'}", flush=True)
        began = time.monotonic()
        try:
            follower.follow()
        except TrainJobError as error:
            told = handover.note(f"{work}/{ERROR}", out)
            if told and told["users_mistake"]:
                raise UserError(told["error"]) from error
            raise TrainJobError(f"{error}{' Its own words: ' + told['error'] if told else ''}") from error
        finally:  # this pod has no GPU, the nodes have
            nodes = cluster.train.num_nodes
            if cost := config.tracking.price(time.monotonic() - began, nodes * _gpus(config), nodes):
                log.metrics({"cost": cost})
        metrics = handover.take_over(f"{work}/{OUTPUT}", out, log, steps)
        follower.delete()  # its student is here
    return metrics


settle = train.settle


@contextlib.contextmanager
def _stopping(follower: Follower) -> Iterator[None]:
    """Turns the signal to stop into the end of the job, unless this pod is only moved away."""
    with stopping():  # one signal is enough: behind it the job must go
        try:
            yield
        except StoppedError as error:
            if moved_away(follower.kube):
                raise TrainJobError(
                    f"this pod is moved to another node; TrainJob {follower.name} runs on, and the next attempt "
                    "follows it"
                ) from error
            follower.delete()
            raise TrainJobError(f"cancelled; TrainJob {follower.name} is deleted") from error


def moved_away(kube: Kube) -> bool:
    """Whether this pod ends because of its node, and not because the run was cancelled."""
    name = own_pod()
    if not name:
        return False
    try:
        status = kube.pod(name).get("status", {})
    except Exception:  # nobody says so: a job that nobody follows is worse than one that starts again
        return False
    return any(c["type"] == "DisruptionTarget" and c["status"] == "True" for c in status.get("conditions") or [])
