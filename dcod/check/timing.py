"""How long a run takes on this machine's CPUs, by arithmetic on a sample: right within a factor of two or three."""

from __future__ import annotations

from dcod.check.sample import Sample
from dcod.config import Config
from dcod.objective import arms, price
from dcod.objective.corrections import prepared
from dcod.objective.price import Cost
from dcod.traces import Trace

FLOPS = 7e10  # a second and core: SmolLM2-135M, 11 to 12 ms a token (bench/pretrained/second); long traces take half
STAGE_S = 8.0  # of a stage on a CPU whatever it does: a process that loads torch and the student
_SCORED = 0.5  # of a token learnt, that scoring one costs: the pass, and reading and writing it


def run(config: Config, taken: Sample, size: int, asked: float) -> tuple[float, str]:
    """Seconds of a run, and the sentence about them.

    Args:
        config: the whole configuration.
        taken: the first rows of every source.
        size: numbers in the student.
        asked: tokens of one model's evaluation at most, prompts and answers.
    """
    from joblib import cpu_count

    train, evaluate = config.train, config.evaluate
    trainings = (1 + train.twin) * train.seeds
    if not train.arms and prepared(train.correction):  # plain students first, on all traces together
        trainings += train.seeds
    cost = pilot(config, taken)
    models = 2 + train.twin + evaluate.report_share * (bool(evaluate.few_shot) + 2 * (train.seeds - 1) + 2 * bool(cost))
    tokens = _grown(taken) * len(taken.traces) * _each(taken)
    taught = tokens * _taught(taken) / max(len(taken.traces), 1)
    # Writing a token takes about as long as learning one: it cannot be done in batches as large.
    work = taught * train.epochs * trainings + _SCORED * tokens + (cost.whole if cost else 0.0) + asked * models
    learnt = 6.0 * size / (FLOPS * cpu_count())
    stages = 9 + 3 * (trainings - 1) + len(train.compared) * (2 if train.halves else 1)
    seconds = learnt * work + STAGE_S * stages
    text = f"{tokens:,.0f} tokens, {size / 1e6:,.0f} million parameters, {train.epochs} epochs"
    text += f", {trainings:g} trainings" if trainings > 1 else ""
    if cost:
        text += f", a pilot of {cost.students} students on {cost.share:.1%} of the prompts ({cost.time(learnt)})"
    elif train.arms:
        text += ", no pilot by these rows"
    return seconds, (
        f"{text}: {price.duration(seconds)} of scoring, training and evaluation on these {cpu_count()} cores"
    )


def pilot(config: Config, taken: Sample) -> Cost | None:
    """What the pilot of a run costs, by a sample; None where nothing is compared, or on too few problems."""
    if not config.train.arms or too_few(config, taken) or arms.none_left(config.train, taken.holdings()):
        return None
    wanted, held = config.train.pilot, _held(config, taken)
    each = 1.0 / len(taken.tokens)
    if wanted.compare == "nll":
        each *= len(held) / len({(one.split, one.prompt_id) for one in held})
    asked = problems(config, taken).items()
    answered = sum(price.answered(wanted, split, taken.tokens) * each * count for split, count in asked)
    untried = [name for name, why in arms.tried(config.train, taken.holdings()).items() if why]
    traces = _grown(taken) * _taught(taken)
    return price.cost_of(config, traces * _each(taken), traces, answered, untried)


def too_few(config: Config, taken: Sample) -> str:
    """Why the pilot of a run would try no arm, by a sample; "" where it does, or nothing is compared."""
    return arms.too_few(config.train.pilot, problems(config, taken)) if config.train.arms else ""


def _held(config: Config, taken: Sample) -> list[Trace]:
    """The traces of problems that a pilot asks."""
    by_nll = config.train.pilot.compare == "nll"
    return [trace for trace in taken.traces if trace.split != "train" and (trace.gold or by_nll)]


def problems(config: Config, taken: Sample) -> dict[str, float]:
    """How many problems of either kind a pilot asks, of all rows."""
    held, most = _held(config, taken), config.train.pilot.most
    known = {split: {one.prompt_id for one in held if one.split == split} for split in ("selection", "pilot")}
    return {split: min(most(split), _grown(taken) * len(prompts)) for split, prompts in known.items()}


def _grown(taken: Sample) -> float:
    """How many rows there are for each that was looked at."""
    return taken.total / max(taken.rows, 1)


def _taught(taken: Sample) -> int:
    return sum(trace.split == "train" for trace in taken.traces)


def _each(taken: Sample) -> float:
    """Tokens of a trace in the mean."""
    return sum(map(sum, taken.tokens)) / max(len(taken.tokens), 1)
