"""The traces that an entry learns from: scored by the start, by students of the other half, or with own ones beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from bench.study import lab
from bench.study.lab import cached, digest, encode, problems
from bench.study.regimes import Regime
from bench.study.second import success
from bench.study.second.entries import Data
from bench.study.second.measure import answers, right
from dcod.config import CorrectionConfig
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.objective import corrections
from dcod.score.scores import read_scores, write_scores
from dcod.traces.scored import ScoredTrace

CROSS_RATE = 2e-3  # of the two students that score, over as many epochs as the regime has


def traces(regime: Regime, data: Data, seed: int, work: Path) -> list[ScoredTrace]:
    """The training traces of an entry."""
    if data == "plain":
        return lab.traces(regime, seed, work)["train"]
    if data == "cross":
        return _cross(regime, seed, work)
    own = _own(regime, seed, work)
    if data in ("own_success", "own_success_within"):
        return success.weighted(
            lab.traces(regime, seed, work)["train"], own, regime.traces, data == "own_success_within"
        )
    right_ones = [e for e in own if success.is_right(e)]
    kept = right_ones if data == "own" else Random(seed).sample(own, len(right_ones))
    return [*lab.traces(regime, seed, work)["train"], *kept]


def _cross(regime: Regime, seed: int, work: Path) -> list[ScoredTrace]:
    """Each half of the prompts as a student scores it that was fine-tuned on the other half."""

    def make(folder: Path) -> None:
        whole = lab.traces(regime, seed, work)["train"]
        halves = [[e for e in whole if int(e.prompt_id) % 2 == part] for part in (0, 1)]
        for one, other in (halves, halves[::-1]):
            model = loading.load(lab.start(regime, seed, work))
            lab.fit(model, one, len(one), regime.traces_per_step, CROSS_RATE, seed, regime.epochs)
            model.save_pretrained(folder / "student")
            TransformersEngine(folder / "student", lab.tokenizer()).annotate(other, 16384)
        write_scores(folder / "scores.parquet", whole, ["train"] * len(whole))

    return read_scores(cached(work / f"cross-{regime.name}-{seed}-{digest(regime)}", make))["train"]


def _own(regime: Regime, seed: int, work: Path) -> list[ScoredTrace]:
    """One static set of the start's own answers at temperature 1, as many as the teacher gave; ids tell the right."""

    def make(folder: Path) -> None:
        engine = TransformersEngine(lab.start(regime, seed, work), lab.tokenizer())
        drawn = problems(regime, regime.train_problems, seed, distinct=regime.held_out)
        written = answers(engine, regime, drawn, regime.traces, 1.0, seed)
        hits = right(drawn, written, regime.traces)
        examples = []
        for place, (completion, hit) in enumerate(zip(written, hits, strict=True)):
            index, name = place // regime.traces, f"own/{place}/{'right' if hit else 'any'}"
            if not completion.truncated:
                prompt = encode(drawn[index].text)
                examples.append(ScoredTrace(name, str(index), prompt, completion.token_ids, [], []))
        engine.annotate(examples, 16384)
        write_scores(folder / "scores.parquet", examples, ["train"] * len(examples))

    return read_scores(cached(work / f"own-{regime.name}-{seed}-{digest(regime)}", make))["train"]


def complete(
    examples: list[ScoredTrace], config: CorrectionConfig, engine: Callable[[], TransformersEngine], window: int
) -> None:
    """Writes into the traces what few corrections need of the start: ranks and mass, or local scores.

    Args:
        examples: the traces.
        config: of the correction.
        engine: makes that of the start.
        window: tokens before a sentence that local scores see.
    """
    needed = {name for any_of in corrections.needs(config) for name in any_of}
    if needed & {"start_ranks", "start_mass"}:
        from dcod.score.fields.ranks import ranks

        engine().annotate(examples, 2048, also=[ranks])
    if "local_logprobs" in needed:
        from dcod.score.fields import local

        local.annotate(engine(), examples, window, 2048)


def near_share(weights: dict[str, list[float]], regime: Regime) -> float:
    """The share of all weight that the first teacher's traces have."""
    total = {trace: sum(values) for trace, values in weights.items()}
    near = sum(value for trace, value in total.items() if int(trace.split("/")[1]) < regime.traces // 2)
    return near / sum(total.values())


def as_scored_by(model: Path, traces: list[ScoredTrace]) -> list[ScoredTrace]:
    """Copies of traces with the scores of another student."""
    copies = [replace(e) for e in traces]
    TransformersEngine(model, lab.tokenizer()).annotate(copies, 16384)
    return copies
