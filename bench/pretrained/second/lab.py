"""The teacher of a task, its traces, and what students of the other half of the prompts make of them."""

from __future__ import annotations

import functools
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench.pretrained.second.tasks import TASKS, Problem, Task, answer_of, style_for
from bench.study.lab import cached, unscored
from bench.study.second.entries import ENTRIES, Data, Entry
from dcod.config import TrainConfig
from dcod.engines import Completion, Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.score import asking
from dcod.score.scores import read_scores, write_scores
from dcod.score.success import Success
from dcod.traces import prompts
from dcod.traces.scored import ScoredTrace
from dcod.train import loop

STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
VERSION = 1  # moves with every change of what is made here
TEACHER_PROBLEMS, TRACES, TOP_K = 320, 200, 8
TEACHER_RATE = CROSS_RATE = 3e-4
TEACHER_EPOCHS, CROSS_EPOCHS = 2, 1
PLAIN, HELD_BACK = (1e-4, 2), 64  # of `manner`: the plain student's rate and epochs; the problems that it is asked
MARK = "Worked before:"  # what stands in front of the teacher's hint
BATCH_TOKENS, BATCH = 2048, 160


# Of this student alone: the tiny students' laboratory has no such traces.
ENTRIES["manner"] = Entry({"correction": {"name": "success", "gamma_max": 4.0}}, data="manner")


@functools.cache
def base() -> Path:
    """The folder of the pre-trained student."""
    return Path(loading.resolve(STUDENT))


@functools.cache
def tokenizer() -> Any:
    """Its tokenizer."""
    return prompts.load_tokenizer(base())


def ask(problem: Problem, hint: str = "") -> list[int]:
    """The prompt: the student's own marks of a turn, and no system prompt."""
    text = f"{problem.text}\n{MARK}\n{hint}" if hint else problem.text
    whole = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    return list(tokenizer()(whole, add_special_tokens=False)["input_ids"])


def _hint(task: Task, problem: Problem) -> str:
    return task.write(problem, next(iter(task.styles)))


def fit(model: Any, examples: list[ScoredTrace], seed: int, rate: float, epochs: int, **other: Any) -> loop.Result:
    """Training as every method has it."""
    fixed = {"learning_rate": rate, "epochs": epochs, "traces_per_step": 8, "micro_batch_tokens": 1024}
    config = TrainConfig.model_validate({**fixed, **other})
    return loop.train(model, examples, [], config, seed, save_best=lambda _: None, metrics=lambda *_: None)


def teacher(name: str, work: Path) -> Path:
    """The student itself, fine-tuned on a program's solutions in all styles, with one of them as a hint before it."""

    def make(folder: Path) -> None:
        task, examples = TASKS[name], []
        for problem in task.problems(TEACHER_PROBLEMS, 1, "teacher"):
            text = task.write(problem, style_for(task, problem, 0))
            completion = prompts.encode_completion(tokenizer(), text)
            examples.append(
                ScoredTrace(problem.text, problem.text, ask(problem, _hint(task, problem)), completion, [], [])
            )
        model = loading.load(base())
        fit(model, unscored(examples), 1, TEACHER_RATE, TEACHER_EPOCHS)
        model.save_pretrained(folder)

    return cached(work / f"second-teacher-{name}-{VERSION}", make)


def seed_of(per_prompt: int, seed: int) -> int:
    """Of problems: runs with other counts of traces share none, so that their differences are independent."""
    return 1000 * per_prompt + seed


def _taught(task: Task, per_prompt: int, seed: int) -> list[Problem]:
    return task.problems(TRACES // per_prompt, seed_of(per_prompt, seed), "train")


def traces(name: str, per_prompt: int, seed: int, work: Path) -> list[ScoredTrace]:
    """Verified traces, scored by the teacher, its top-k with it, and by the start; 200 are asked for."""

    def make(folder: Path) -> None:
        task = TASKS[name]
        drawn = _taught(task, per_prompt, seed)
        asked = [problem for problem in drawn for _ in range(per_prompt)]
        engine = TransformersEngine(teacher(name, work), tokenizer())
        hinted = [ask(problem, _hint(task, problem)) for problem in asked]
        written = engine.generate(hinted, Sampling(task.max_new_tokens, temperature=1.0, seed=seed), BATCH)
        kept = [
            ScoredTrace(f"{place}", problem.text, prompt, completion.token_ids, [], [])
            for place, (problem, prompt, completion) in enumerate(zip(asked, hinted, written, strict=True))
            if right(problem, completion)
        ]
        engine.annotate(kept, BATCH_TOKENS, TOP_K)
        for example in kept:
            example.behavior_logprobs = example.student_logprobs
            example.teacher_top_ids, example.teacher_top_logprobs = example.start_top_ids, example.start_top_logprobs
            example.start_top_ids = example.start_top_logprobs = None
            example.prompt_tokens = ask(asked[int(example.trace_id)])
        TransformersEngine(base(), tokenizer()).annotate(kept, BATCH_TOKENS)
        write_scores(folder / "scores.parquet", kept, ["train"] * len(kept))

    return read_scores(cached(work / f"second-traces-{name}-{per_prompt}-{seed}-{VERSION}", make))["train"]


def of_entry(name: str, per_prompt: int, data: Data, seed: int, work: Path) -> list[ScoredTrace]:
    """The traces that an entry learns from."""
    whole = traces(name, per_prompt, seed, work)
    if data == "plain":
        return whole
    if data == "manner":
        return _with_success(name, per_prompt, seed, work)
    sets = _by_the_other_half(name, per_prompt, seed, work)
    if data == "cross":
        return sets["train"]
    own = sets["selection"]
    fine = [example for example in own if example.trace_id.endswith("/right")]
    return [*whole, *(fine if data == "own" else Random(seed).sample(own, len(fine)))]


def _by_the_other_half(name: str, per_prompt: int, seed: int, work: Path) -> dict[str, list[ScoredTrace]]:
    """What two students, each fine-tuned on half of the prompts, say to the other half.

    Returns:
        The traces with their scores as ``train``; as ``selection`` their own answers at temperature 1, one for two
        of the traces asked for (and one at least); their ids say which are right.
    """

    def make(folder: Path) -> None:
        task, whole = TASKS[name], [replace(e) for e in traces(name, per_prompt, seed, work)]
        drawn = {
            problem.text: problem for problem in task.problems(TRACES // per_prompt, seed_of(per_prompt, seed), "train")
        }
        half = {prompt: place % 2 for place, prompt in enumerate(dict.fromkeys(e.prompt_id for e in whole))}
        own: list[ScoredTrace] = []
        for part in (0, 1):
            model = loading.load(base())
            fit(model, [e for e in whole if half[e.prompt_id] == part], seed, CROSS_RATE, CROSS_EPOCHS)
            model.save_pretrained(folder / "student")
            engine = TransformersEngine(folder / "student", tokenizer())
            engine.annotate([e for e in whole if half[e.prompt_id] != part], BATCH_TOKENS)
            asked = [drawn[p] for p, mine in half.items() if mine != part for _ in range(max(1, per_prompt // 2))]
            sampling = Sampling(task.max_new_tokens, temperature=1.0, seed=seed)
            for problem, said in zip(asked, engine.generate([ask(p) for p in asked], sampling, BATCH), strict=True):
                if not said.truncated:
                    mark = "right" if right(problem, said) else "any"
                    own.append(
                        ScoredTrace(f"own/{len(own)}/{mark}", problem.text, ask(problem), said.token_ids, [], [])
                    )
        TransformersEngine(base(), tokenizer()).annotate(own, BATCH_TOKENS)
        for file in (folder / "student").iterdir():
            file.unlink()
        (folder / "student").rmdir()
        splits = ["train"] * len(whole) + ["selection"] * len(own)
        write_scores(folder / "scores.parquet", [*whole, *own], splits)

    return read_scores(cached(work / f"second-cross-{name}-{per_prompt}-{seed}-{VERSION}", make))


def _with_success(name: str, per_prompt: int, seed: int, work: Path) -> list[ScoredTrace]:
    """The traces with the chance of success in the manner of each, by a plain student's answers to other problems."""
    file = cached(
        work / f"second-asked-{name}-{per_prompt}-{seed}-{VERSION}", partial(_answer, name, per_prompt, seed, work)
    )
    own = read_scores(file)["train"]
    text = partial(tokenizer().decode, skip_special_tokens=True)
    hits = [each.trace_id.endswith("/right") for each in own]
    whole = traces(name, per_prompt, seed, work)
    problems = [each.prompt_id for each in own]
    chances = Success([text(each.completion_tokens) for each in own], hits, problems).chances(
        [text(each.completion_tokens) for each in whole]
    )
    return [replace(each, success=chance) for each, chance in zip(whole, chances, strict=True)]


def _answer(name: str, per_prompt: int, seed: int, work: Path, folder: Path) -> None:
    """Answers of a student of plain fine-tuning to problems that were held back; cut ones are wrong."""
    task, whole = TASKS[name], traces(name, per_prompt, seed, work)
    taught = {problem.text for problem in _taught(task, per_prompt, seed)}
    drawn = task.problems(HELD_BACK + len(taught), seed_of(per_prompt, HELD_BACK + seed), "train")
    held = [problem for problem in drawn if problem.text not in taught][:HELD_BACK]
    model = loading.load(base())
    fit(model, whole, seed, *PLAIN)
    engine = TransformersEngine(model.eval(), tokenizer())
    asked = [problem for problem in held for _ in range(asking.ATTEMPTS)]
    sampling = Sampling(task.max_new_tokens, temperature=asking.TEMPERATURE, seed=seed)
    own: list[ScoredTrace] = []
    for problem, said in zip(asked, engine.generate([ask(p) for p in asked], sampling, BATCH), strict=True):
        mark = "right" if right(problem, said) else "wrong"
        own.append(ScoredTrace(f"{len(own)}/{mark}", problem.text, ask(problem), said.token_ids, [], []))
    write_scores(folder / "scores.parquet", own, ["train"] * len(own))


def right(problem: Problem, completion: Completion) -> bool:
    """Whether an answer is whole and right."""
    return not completion.truncated and answer_of(completion.text) == problem.answer
