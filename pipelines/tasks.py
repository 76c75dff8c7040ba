"""How the stages of a pipeline hang together: what the pipelines share. To be used inside a pipeline's function.

Caching is off everywhere: dcod reuses a stage's output by its own digest (configuration, inputs, code). Kubeflow's
cache key covers image and arguments, among them the id of the run, so it would never hit; and not what a bucket holds.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kfp import dsl

from dcod_components.again import again
from dcod_components.choose import choose
from dcod_components.choose_halved import choose_halved
from dcod_components.decide import decide
from dcod_components.evaluate import evaluate
from dcod_components.examine import examine
from dcod_components.fetch import fetch
from dcod_components.finish import finish
from dcod_components.gate import gate
from dcod_components.halve import halve
from dcod_components.ingest import ingest
from dcod_components.ingest_more import ingest_more
from dcod_components.join import join
from dcod_components.look import look
from dcod_components.merge import merge
from dcod_components.pilot import pilot
from dcod_components.promote import promote
from dcod_components.score import score
from dcod_components.seeds import seeds
from dcod_components.settle import settle
from dcod_components.teach import teach
from dcod_components.train import train
from dcod_components.train_nodes import train_nodes
from dcod_pipelines.pods import Pods

if TYPE_CHECKING:
    from dcod.config import Config


class Tasks:
    """The tasks of one pipeline run; each method makes some and returns their artifacts.

    Attributes:
        settings: the configuration that the pipeline is compiled with.
        cluster: of it. With ``shards`` > 1, ingestion (by rows) fans out and is joined, score (by traces) and evaluate
            (by benchmarks) fan out and are merged; with ``train.num_nodes`` > 1, training is a TrainJob.
        arms: by name, where several settings are compared: the pilot fans out over them.
        parallelism: so many of a loop's trainings at once; 0: all.
        inputs: of the pipeline, and what it is compiled with.
        common: the arguments of every component.
    """

    def __init__(self, settings: "Config", inputs: dict[str, Any], parallelism: int = 0) -> None:
        from dcod.config.inputs import compiled_with
        from dcod.stages import shards

        self.settings, self.cluster, self.place = settings, settings.cluster, Pods(settings.cluster)
        self.inputs = {**inputs, "compiled": compiled_with(settings)}
        self.common: dict[str, Any] = {"pipeline": dsl.PIPELINE_JOB_ID_PLACEHOLDER}
        self.shards = shards.plan(settings.cluster.shards)
        self.fetched: dict[str, Any] = {}
        self.arms = [arm.name for arm in settings.train.compared]
        self.parallelism = parallelism

    def closing(self) -> Any:
        """The exit handler; it may read no task's output, so it takes the inputs as they came."""
        return self.place.closing(finish(**self.inputs, **self.common))

    def settle(self) -> None:
        """The configuration with the inputs of the run, which all further tasks take."""
        task = settle(**self.inputs, **self.common)
        self.common["config"] = self.place.task(task, "settle configuration").outputs["settled"]

    def fetch(self, which: str, name: str) -> Any:
        """A model as an artifact."""
        return self.place.task(fetch(**self.common, which=which), f"fetch {name}").outputs["model"]

    def ingest(self, student: Any) -> Any:
        """The configured sources as a trace set."""
        inputs = {**self.common, "student": student}
        if len(self.shards) == 1:
            return self.place.task(ingest(**inputs), "ingest traces").outputs["traces"]

        def part(**shard: Any) -> Any:
            return self.place.task(examine(**inputs, **shard), "examine traces").outputs["examined"]

        parts = self._parts(part, "ingest shards")
        return self.place.task(join(**inputs, parts=parts), "join traces").outputs["traces"]

    def taught(self, traces: Any, start: Any) -> Any:
        """The traces, and more for the prompts that have too few, where somebody is there to be asked."""
        asks = self.settings.asks
        if not asks:
            return traces
        teacher: dict[str, Any] = {"student": {"teacher": start}, "endpoint": {}}.get(asks, {})
        if asks == "teacher":
            teacher = self._teacher()
        here = self.settings.asking.name != "openai"
        looked = self._look("teach", "teach", {"traces": traces, **teacher}) if here else None
        task = teach(**self.common, traces=traces, **teacher)
        attempts = self.place.task(task, "teach", gpu=here, look=looked).outputs["taught"]
        task = ingest_more(**self.common, student=start, traces=traces, taught=attempts)
        return self.place.task(task, "ingest more traces").outputs["more"]

    def _teacher(self) -> dict[str, Any]:
        """The teacher's model, fetched once."""
        if not self.fetched:
            self.fetched = {"teacher": self.fetch("teacher", "teacher")}
        return self.fetched

    def decide(self, start: Any, champion: Any, traces: Any) -> dict[str, Any]:
        """Whether to train, and on what."""
        task = decide(**self.common, start=start, champion=champion, traces=traces)
        return dict(self.place.task(task, "decide", gpu=True).outputs)

    def score(self, traces: Any, model: Any, which: str = "") -> Any:
        """The traces with the model's log-probs; ``which`` tells several rounds apart."""

        def part(**shard: Any) -> Any:
            name = f"score traces{which}"
            looked = self._look("score", name, {"traces": traces, "student": model}, **shard)
            task = score(**self.common, traces=traces, student=model, **shard)
            return self.place.task(task, name, gpu=True, look=looked).outputs["scores"]

        return self._merged(part, f"score shards{which}", "score", traces, f"merge scores{which}")

    def choose(self, scores: Any, start: Any, traces: Any) -> dict[str, Any]:
        """What the pilots of all arms chose, as `choice`; nothing where no arms are configured."""
        if not self.arms:
            return {}
        given, halves = {"scores": scores, "start": start, "traces": traces}, self.settings.train.halves
        answers = self._pilots("pilots", given, **({"first": True} if halves else {}))
        if halves:  # kfp takes a Collected once
            task = self.place.task(halve(**self.common, pilots=dsl.Collected(answers)), "drop arms")
            further = self._pilots("further pilots", given, dropped=task.outputs["dropped"])
            task = choose_halved(**self.common, pilots=dsl.Collected(answers), further=dsl.Collected(further))
        else:
            task = choose(**self.common, pilots=dsl.Collected(answers))
        return {"choice": self.place.task(task, "choose arm", gpu=True).outputs["choice"]}

    def _pilots(self, loop: str, given: dict[str, Any], **which: Any) -> Any:
        """What the pilots of all arms answered, to be collected; ``which`` says of what seeds."""
        second = {"dropped": which["dropped"]} if "dropped" in which else {"scores": given["scores"]}
        with dsl.ParallelFor(items=self.arms, name=loop, parallelism=self.parallelism) as arm:
            looked = self._look("pilot", "try arm", {"traces": given["traces"], **second}, arm=arm)
            task = pilot(**self.common, arm=arm, **given, **which)
            task = self.place.task(task, "try arm", gpu=True, look=looked)
        return task.outputs["answers"]

    def train(self, scores: Any, start: Any, which: str = "", **arm: Any) -> Any:
        """The student, in this pod or by a TrainJob on several nodes; of a choice or a named arm, if given."""
        in_this_pod = self.cluster.train.num_nodes == 1
        trainer = train if in_this_pod else train_nodes
        longer = 0 if in_this_pod else self.cluster.train.timeout_s + 600  # than the job that this pod follows
        name = f"train student{which}"
        looked = None
        if in_this_pod and "choice" not in arm:
            looked = self._look("train", name, {"scores": scores, "student": start}, **arm)
        task = trainer(**self.common, scores=scores, start=start, **arm)
        return self.place.task(task, name, gpu=in_this_pod, timeout_s=longer, look=looked).outputs["student"]

    def evaluate(self, model: Any, traces: Any, label: str, few_shot: bool = False) -> Any:
        """The model's answers, graded."""

        def part(**shard: Any) -> Any:
            name = f"evaluate {label}"
            looked = self._look("evaluate", name, {"student": model, "traces": traces}, few_shot, **shard)
            task = evaluate(**self.common, student=model, traces=traces, label=label, few_shot=few_shot, **shard)
            return self.place.task(task, name, gpu=True, look=looked).outputs["results"]

        return self._merged(part, f"evaluate {label} shards", "evaluate", traces, f"merge {label}")

    def twin(self, scores: Any, start: Any, traces: Any, **choice: Any) -> dict[str, Any]:
        """The student of plain fine-tuning at full size, and its results; nothing where none is wanted.

        With ``train.seeds`` also the answers of further students and twins; ``choice`` is of :meth:`choose`, and says
        at which rate plain fine-tuning was best; where it was tried at one alone, the twin waits for no pilot.
        """
        from dcod.config.arms import SFT

        if not self.settings.train.twin:
            return {}
        waits = len(self.settings.train.sft_rates) > 1
        model = self.train(scores, start, f" {SFT}", arm=SFT, **(choice if waits else {}))
        made = {"twin": model, "twin_results": self.evaluate(model, traces, SFT)}
        return made | self._further(scores, start, **choice)

    def _further(self, scores: Any, start: Any, **choice: Any) -> dict[str, Any]:
        """What students with other seeds answer to the report problems, as `seeds`; nothing where none are wanted."""
        from dcod.stages.seeds import names

        if not (wanted := names(self.settings.train.seeds)):
            return {}
        with dsl.ParallelFor(items=wanted, name="further seeds", parallelism=self.parallelism) as arm:
            given = {"scores": scores, "student": start}
            looked = None if choice else self._look("again", "train again", given, arm=arm)
            task = again(**self.common, scores=scores, start=start, arm=arm, **choice)
            task = self.place.task(task, "train again", gpu=True, look=looked)
        gathered = seeds(**self.common, students=dsl.Collected(task.outputs["answers"]))
        return {"seeds": self.place.task(gathered, "gather seeds").outputs["gathered"]}

    def gate(self, start: Any, champion: Any, student: Any, traces: Any, scores: Any, **compared: Any) -> None:
        """All models on the same problems, the gate, and the promotion if it says so.

        Args:
            start: model.
            champion: model.
            student: model.
            traces: that the student was trained on.
            scores: of them.
            **compared: of :meth:`twin` and :meth:`choose`.
        """
        if self.settings.promote.exposure_traces:
            compared |= self._teacher()
        decided = self.place.task(
            gate(
                **self.common,
                start=start,
                student=student,
                traces=traces,
                scores=scores,
                start_results=self.evaluate(start, traces, "start"),
                few_shot_results=self.evaluate(start, traces, "start, few-shot", few_shot=True),
                champion_results=self.evaluate(champion, traces, "champion"),
                results=self.evaluate(student, traces, "student"),
                **compared,
            ),
            "gate",
            gpu=True,  # it may evaluate a champion again
        )
        # A single output read as .output: on a named one the local runner skips the branch silently.
        with dsl.If(decided.outputs["Output"] == "promote", name="better"):
            self.promote(decided.outputs["decision"])

    def promote(self, decision: Any) -> None:
        """The champion alias moves to the challenger of a decision."""
        self.place.task(promote(**self.common, decision=decision), "promote", gpu=True, retried=False)

    def _look(self, verb: str, name: str, inputs: dict[str, Any], few_shot: bool = False, **shard: Any) -> Any:
        """The task that looks for a stage's output before the stage takes a GPU; None where there is none to save.

        ``inputs`` are the stage's two; worked examples alone make an evaluation depend on the traces.
        """
        if not self.place.takes_gpu(verb):
            return None
        first, second = inputs.values()
        names = ",".join(list(inputs)[: 2 if verb != "evaluate" or few_shot else 1])
        which: dict[str, Any] = {
            "stage": verb,
            "inputs": names,
            "few_shot": few_shot,
            **self.place.sizes(verb),
            **shard,
        }
        task = look(config=self.common["config"], first=first, second=second, **which)
        return self.place.look(task, verb, f"look: {name}")

    def _merged(self, part: Callable[..., Any], loop: str, kind: str, traces: Any, name: str) -> Any:
        """A stage in one pod, or in a pod a shard and one that merges them."""
        if len(self.shards) == 1:
            return part()
        task = merge(**self.common, kind=kind, traces=traces, parts=self._parts(part, loop))
        return self.place.task(task, name).outputs["merged"]

    def _parts(self, part: Callable[..., Any], loop: str) -> Any:
        """The outputs of all shards (:mod:`dcod.stages.shards`); ``part`` makes a task and returns its output."""
        with dsl.ParallelFor(items=self.shards, name=loop) as shard:
            output = part(shard=shard)
        return dsl.Collected(output)
