"""A scored trace set as a page to look at: every token with its weight, surprisal and gap; see docs/pages.md.

The weights are those of training: planned over the same optimizer steps of its first epoch, from the same stored
scores (:func:`dcod.train.loop.first_weights`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod import benchmarks, grading, storage
from dcod.config import Config
from dcod.engines import Sampling, by_name
from dcod.errors import UserError
from dcod.reports import viewer
from dcod.score.scores import read_scores
from dcod.traces import Trace, prompt_digest, prompts, read_traces
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LIMIT = 1000
_BATCH = 16  # prompts that the student answers at once
_ANCHOR = "a"  # decoded in front of a token, so that a leading space is kept


def page(
    config: Config,
    scores: Path,
    student: Path,
    *,
    traces: Path | None = None,
    results: Path | None = None,
    answers: int = 0,
    limit: int = LIMIT,
) -> str:
    """The page of a scored trace set.

    Args:
        config: ``train`` decides the weights, ``seed`` the steps that they are compared within.
        scores: the output of the score stage.
        student: a model folder with the tokenizer of the scores; it writes the answers, where some are asked for.
        traces: the trace set that was scored: verdicts, sources, licences, and prompts as messages.
        results: results of an evaluation; its answers to the prompts of traces stand beside them.
        answers: let the student answer so many of the prompts itself, greedily; those that the page opens with.
        limit: traces on the page, the first ones in the order of the set.

    Raises:
        UserError: the folders do not belong together, or the correction cannot be applied to the scores.
    """
    from dcod.train import loop  # loads torch, which a gate without a page does not need

    splits = read_scores(scores)
    examples = [*splits["train"], *splits["selection"]]
    if not examples:
        raise UserError(f"{scores}: no trace in it; see the quarantine of the ingest stage")
    weights = loop.first_weights(splits["train"], config.train, config.seed) if splits["train"] else {}
    tokenizer = prompts.of_student(student, config.student)
    known = _known(examples, traces)
    if known:
        places = {trace_id: place for place, trace_id in enumerate(known)}
        examples.sort(key=lambda example: places[example.trace_id])
    shown = examples[:limit]
    own = _recorded(results) if results else {}
    if answers:
        own |= _asked(config, student, tokenizer, looked_at_first(shown, weights), known, answers)
    pieces = Pieces(tokenizer, scores)
    rows = []
    for example in shown:
        row = _row(example, weights.get(example.trace_id), pieces)
        row |= _of_trace(known.get(example.trace_id), example, tokenizer)
        rows.append(row | {"own": own.get(example.prompt_id)})
    data = {
        "title": config.name,
        "about": _about(config, len(examples), len(shown), known, own),
        "pieces": pieces.texts,
        "spelled": pieces.spelled,
        "traces": rows,
    }
    return viewer.render("viewer", f"{config.name}: traces", data)


def looked_at_first(shown: Sequence[ScoredTrace], weights: Mapping[str, Sequence[float]]) -> list[ScoredTrace]:
    """The traces as the page orders them when it opens (assets/viewer_data.js).

    First those whose weights are furthest from 1; where all weigh the same, those that surprise the student most.
    """

    def mean(values: Sequence[float]) -> float:
        finite = [value for value in values if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else -math.inf

    far = {name: mean([abs(math.log2(max(weight, 1e-3))) for weight in each]) for name, each in weights.items()}
    known = [far[example.trace_id] for example in shown if example.trace_id in far]
    if known and max(known) - min(known) > 1e-3:
        return sorted(shown, key=lambda example: -far.get(example.trace_id, -math.inf))
    return sorted(shown, key=lambda example: -mean([-value for value in example.student_logprobs]))


def of_training(folder: Path, fallback: Config) -> Config:
    """The configuration that a student folder was trained with; ``fallback`` where the folder is none of ours."""
    path = folder / storage.MANIFEST
    if not path.is_file():
        return fallback
    manifest = storage.read_json(path, made_by="dcod train")
    if manifest.get("stage") != "train":
        return fallback
    known = {"student": manifest["config"]["student"], "train": manifest["config"]["train"], "seed": manifest["seed"]}
    return Config.model_validate(fallback.model_dump(mode="json") | known)


class Pieces:
    """The text of every token that occurs, each once.

    Attributes:
        texts: by the number that :meth:`number` gave.
        spelled: numbers of tokens that are no text of their own, such as a part of a character; they stand in the
            tokenizer's own spelling.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, scores: Path) -> None:
        self.texts: list[str] = []
        self.spelled: list[int] = []
        self._tokenizer, self._scores = tokenizer, scores
        self._numbers: dict[int, int] = {}
        self._anchor = tokenizer(_ANCHOR, add_special_tokens=False)["input_ids"]
        self._before = len(self._decode([]))

    def number(self, token: int) -> int:
        """The number of a token id.

        Raises:
            UserError: the tokenizer has no such token.
        """
        if token not in self._numbers:
            if not 0 <= token < len(self._tokenizer):
                raise UserError(
                    f"{self._scores}: token {token} in it, but the student's tokenizer has {len(self._tokenizer)}; "
                    "give --student the model that scored it"
                )
            text = self._decode([token])[self._before :]
            if not text or "\ufffd" in text:
                text = str(self._tokenizer.convert_ids_to_tokens(token))
                self.spelled.append(len(self.texts))
            self._numbers[token] = len(self.texts)
            self.texts.append(text)
        return self._numbers[token]

    def _decode(self, tokens: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                [*self._anchor, *tokens], skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


def _known(examples: Sequence[ScoredTrace], traces: Path | None) -> dict[str, Trace]:
    """The traces behind the scores, in their order."""
    if traces is None:
        return {}
    scored = {example.trace_id for example in examples}
    by_id = {trace.trace_id: trace for trace in read_traces(traces) if trace.trace_id in scored}
    if len(by_id) < len(scored):
        raise UserError(
            f"{traces}: {len(scored) - len(by_id)} of {len(scored)} scored traces are not in it; give the trace set "
            "that was scored"
        )
    return by_id


def _row(example: ScoredTrace, weights: Sequence[float] | None, pieces: Pieces) -> dict[str, Any]:
    """What is known of a trace by its scores; a weight that all tokens share stands there once."""
    numbers = _numbers(weights)
    return {
        "id": example.trace_id,
        "prompt_id": example.prompt_id,
        "tokens": [pieces.number(token) for token in example.completion_tokens],
        "logp": _numbers(example.student_logprobs),
        "entropy": _numbers(example.entropies),
        "teacher_logp": _numbers(example.behavior_logprobs),
        "teacher_total": None if example.behavior_total is None else round(example.behavior_total, 3),
        "weight": numbers[0] if numbers and len(set(numbers)) == 1 else numbers,
        "split": "train" if weights is not None else "selection",
    }


def _of_trace(trace: Trace | None, example: ScoredTrace, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What only the trace set knows; without one, the prompt is what its tokens say."""
    if trace is None:
        return {"prompt": [["prompt", str(tokenizer.decode(example.prompt_tokens))]]}
    names = ("verdict", "answer", "gold", "teacher", "temperature", "top_p", "licence", "source_file", "source_line")
    return {
        "prompt": [[message["role"], message["content"]] for message in trace.prompt],
        "by_student": trace.own,
        **{name: getattr(trace, name) for name in names},
    }


def _recorded(results: Path) -> dict[str, dict[str, Any]]:
    """The first answer to each problem of a results folder, by the digests of the prompts that ask for it."""
    import pyarrow.parquet as pq

    path = results / "examples.parquet"
    if not path.is_file():
        raise UserError(f"{results}: no examples.parquet in it; make results with `dcod evaluate`")
    if "problem" not in pq.read_schema(path).names:
        raise UserError(f"{results}: its answers do not name their problems; evaluate again with this version")
    answers: dict[str, dict[str, Any]] = {}
    for row in pq.read_table(path).to_pylist():
        answer = {"text": row["response"], "outcome": row["outcome"], "answer": row["answer"], "from": row["benchmark"]}
        for kind in prompts.INSTRUCTIONS:
            answers.setdefault(prompt_digest(prompts.prompt_for(kind, row["problem"])), answer)
    return answers


def _asked(
    config: Config,
    student: Path,
    tokenizer: PreTrainedTokenizerBase,
    shown: Sequence[ScoredTrace],
    known: Mapping[str, Trace],
    count: int,
) -> dict[str, dict[str, Any]]:
    """The student's own greedy answers to the prompts of the first traces.

    They have room for twice the longest trace on the page, and for no more than a benchmark gives.
    """
    first: dict[str, ScoredTrace] = {}
    for example in shown:
        first.setdefault(example.prompt_id, example)
    chosen = list(first.values())[:count]
    engine = by_name.load(config.evaluate.engine, student, tokenizer, config.student.dtype)
    room = 2 * max(len(example.completion_tokens) for example in shown)
    room = min(room, max((benchmarks.plan(one).max_new_tokens for one in config.evaluate.benchmarks), default=room))
    said = engine.generate([example.prompt_tokens for example in chosen], Sampling(room), _BATCH)
    golds = [known[e.trace_id].gold if e.trace_id in known else None for e in chosen]
    asked = [(c.text, gold, c.truncated) for c, gold in zip(said, golds, strict=True) if gold is not None]
    grades = iter(grading.grade_many(asked))
    out = {}
    for example, completion, gold in zip(chosen, said, golds, strict=True):
        grade = None if gold is None else next(grades)
        out[example.prompt_id] = {
            "text": completion.text,
            "outcome": "unverified" if grade is None else grade.outcome,
            "answer": None if grade is None else grade.answer,
            "from": f"written for this page by {student.name}, greedily, at most {room} tokens",
        }
    return out


def _about(
    config: Config, total: int, shown: int, known: Mapping[str, Trace], own: Mapping[str, Any]
) -> dict[str, str]:
    correction = config.train.correction
    words = {
        "correction": correction.name if correction.name != "none" else "none: every weight is 1",
        "traces": f"{shown:,} of {total:,}",
        "weights": f"of the first epoch, in steps of {config.train.traces_per_step} traces (seed {config.seed})",
    }
    if correction.name == "surprisal":
        words["correction"] += f" over each {correction.scope}"
    if correction.name != "none" and correction.weights == "live":
        words["weights"] += "; live: these are the ones before the student has learned anything"
    if correction.name == "success":
        words["weights"] = "1: those of `success` are made in training, of a student's own answers"
    elif correction.name != "none" and correction.weights == "cross":
        words["weights"] += "; of the start's own scores: the cross-fitted ones are made in training"
    missing = [] if known else ["verdicts and sources (--traces)"]
    missing += [] if own else ["the student's own answers (--answers or --results)"]
    if missing:
        words["not given"] = " and ".join(missing)
    return words


_short: Callable[[float], float | None] = lambda value: round(value, 4) if math.isfinite(value) else None  # noqa: E731


def _numbers(values: Sequence[float] | None) -> list[float | None] | None:
    """Four decimals are more than a reader sees, and half the size of a page."""
    return None if values is None else [_short(value) for value in values]
