"""The scheduled job: trains only where the data says that it is worth it, and says why not.

1. fetch     where training would begin (the champion, or the base, by `retrain.start`), and the champion;
2. ingest    all sources: what was ingested before comes from MLflow where nothing changed;
3. decide    what is new since the last finished run, is it enough, can it be corrected, is there anything to learn;
4. go:       score and train, `retrain.rounds` times, each round with the weights of its own student; then evaluate,
             gate and promote, as in dcod_pipelines.distill. With `train.arms` what the last pilot chose trains, or
             what a new one chooses: `decide` says which and why; with `train.twin` plain fine-tuning goes beside;
   waiting:  an accepted challenger of a run that was cut off is promoted;
   skip:     the run ends here.
`finish` closes the run in MLflow, and tells the webhook.
"""

from typing import TYPE_CHECKING, Any

from kfp import dsl

from dcod_pipelines.form import pipeline
from dcod_pipelines.tasks import Tasks

if TYPE_CHECKING:
    from dcod.config import Config


def build(settings: "Config | None" = None, parallelism: int = 0) -> Any:
    """The pipeline for a configuration: its cluster, as in distill, and the number of rounds.

    Args:
        settings: the configuration.
        parallelism: as in distill.
    """
    from dcod.config import Config

    settings = settings or Config()
    rounds = settings.retrain.rounds

    @pipeline("dcod-retrain", "Distillation on what is new, if that is worth it; gated.", settings)
    def retrain(inputs: dict[str, Any]) -> None:
        tasks = Tasks(settings, inputs, parallelism)
        with dsl.ExitHandler(tasks.closing(), name="record-outcome"):
            tasks.settle()
            begin = tasks.fetch("begin", "start")
            champion = tasks.fetch("champion", "champion")
            decided = tasks.decide(begin, champion, tasks.ingest(begin))
            with dsl.If(decided["Output"] == "waiting", name="cut off"):
                tasks.promote(decided["decision"])
            with dsl.If(decided["Output"] == "go", name="worth it"):
                traces, student = decided["selected"], begin
                chosen: dict[str, Any] = {}
                for number in range(1, rounds + 1):
                    which = f", round {number}" if rounds > 1 else ""
                    scores = tasks.score(traces, student, which)
                    chosen = chosen or tasks.choose(scores, begin, traces)
                    student = tasks.train(scores, student, which, **chosen)
                twin = tasks.twin(scores, begin, traces, **chosen)
                tasks.gate(begin, champion, student, traces, scores, **chosen, **twin)

    return retrain


retrain = build()
