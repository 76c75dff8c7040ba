"""What is tried with a tiny model of one type: dcod's numbers against those of the model's own forward pass."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import logging

from bench.sweep import build
from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.errors import UserError, one_line
from dcod.models import loading
from dcod.models.batches import Layout, collate
from dcod.models.fused_head import Objective
from dcod.models.layouts import check_writing, exact_layout
from dcod.models.selfcheck import examine, numbers
from dcod.traces.scored import ScoredTrace
from dcod.train.learner import StudentWithLoss

SIZES = ((3, 7), (9, 4), (5, 12))  # tokens of prompt and completion
NATS, SHARE = 1e-3, 1e-3  # the largest difference of a log-prob, and of a gradient as a share of its norm
FAILS = "none: its own generation fails"
OTHERWISE = "none: it writes otherwise than it scores"
NEW = 4  # tokens that are generated


def marks() -> PreTrainedTokenizerBase:
    """A tokenizer whose token i is the word i; 2 ends a turn."""
    words = Tokenizer(WordLevel({str(number): number for number in range(2000)}, unk_token="1"))  # noqa: S106
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="2", pad_token="0", unk_token="1")  # noqa: S106
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} 2 {% endfor %}"
    return tokenizer


def of(kind: str, work: Path) -> dict[str, Any]:
    """The row of a type.

    Args:
        kind: as transformers lists it.
        work: an empty folder.

    Returns:
        ``result``: ``exact``; ``refused`` by dcod or ``not built``, with the reason; or ``wrong``, with what. And how
        the student is run: ``head``, ``layouts`` that are exact, ``padding`` of prompts.
    """
    try:
        model = build.model(kind)
        model.save_pretrained(work)
    except Exception as error:
        return {"result": "not built", "reason": f"{type(error).__name__}: {_line(error)}"}
    try:
        with torch.no_grad():
            reading = examine(model)
        ours = copy.deepcopy(model)  # packed where it can be, which may change its attention
        packed = exact_layout(ours, reading, "packed")
        engine = TransformersEngine(work, marks())
        padded = engine.layout
    except UserError as error:
        reason = str(error).partition("not supported: ")[2].removesuffix("; take another student")
        return {"result": "refused", "reason": reason or _line(error).replace(str(work), "it")}
    except Exception as error:
        return {"result": "wrong", "wrong": [f"{type(error).__name__}: {_line(error)}"]}
    try:
        check_writing(engine.model, 0)
        padding = str(engine.padding)
    except UserError as error:
        padding = FAILS if "generation fails" in str(error) else OTHERWISE
    row = {**reading.facts(), "layouts": list(dict.fromkeys([packed, padded])), "padding": padding}
    trials = {
        "save and load": lambda: _loaded(engine, work / "again"),
        "score": lambda: _scored(model, engine),
        "gradient": lambda: _gradients(StudentWithLoss(ours, reading), model, row["layouts"]),
        **({"generate": lambda: _generated(engine)} if padding not in (FAILS, OTHERWISE) else {}),
    }
    wrong = [
        f"{name}: {error:.1e}" if isinstance(error, float) else f"{name}: {error}"
        for name, error in _differences(trials).items()
        if error
    ]
    return {"result": "wrong" if wrong else "exact", **({"wrong": wrong} if wrong else {}), **row}


def timed(kind: str) -> tuple[str, float, dict[str, Any]]:
    """The type, how long it took, and its row."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        row = of(kind, Path(work))
    return kind, time.perf_counter() - began, row


def _differences(trials: dict[str, Callable[[], float | str]]) -> dict[str, float | str]:
    """What went wrong, by trial; 0 or nothing where nothing did."""
    found: dict[str, float | str] = {}
    for name, trial in trials.items():
        try:
            found[name] = trial()
        except Exception as error:  # a row of the table, not the end of it
            found[name] = f"{type(error).__name__}: {_line(error)}"
    return found


def examples(model: Any, seed: int = 1) -> list[ScoredTrace]:
    """A few traces of two prompts."""
    generator = torch.Generator().manual_seed(seed)
    special = {value for name, value in numbers(model.config.to_dict()) if "token" in name}
    usual = torch.tensor([token for token in range(5, build.VOCABULARY - 9) if token not in special])
    made = []
    for place, (prompt, completion) in enumerate(SIZES):
        tokens = usual[torch.randint(len(usual), (prompt + completion,), generator=generator)].tolist()
        made.append(ScoredTrace(str(place), str(place % 2), tokens[:prompt], tokens[prompt:], [], []))
    return made


def own_logprobs(model: Any, example: ScoredTrace) -> Tensor:
    """All log-probs of the completion [T, V], by the model's own forward pass."""
    ids = torch.tensor([example.prompt_tokens + example.completion_tokens])
    logits = model(input_ids=ids, use_cache=False).logits[0, len(example.prompt_tokens) - 1 : -1]
    return torch.log_softmax(logits.float(), -1)


def _loaded(engine: TransformersEngine, folder: Path) -> float | str:
    """A student that was loaded once, saved and loaded again: to the bit."""
    engine.model.save_pretrained(folder)
    again: Any = loading.load(folder)
    ids = torch.tensor([examples(again)[1].prompt_tokens])
    with torch.no_grad():
        ours, theirs = (one.eval()(input_ids=ids, use_cache=False).logits for one in (again, engine.model))
    return "" if torch.equal(ours, theirs) else float((ours - theirs).abs().max())


@torch.no_grad()
def _scored(model: Any, engine: TransformersEngine) -> float:
    traces = examples(model)
    engine.annotate(traces, 4096)
    worst = 0.0
    for example in traces:
        logprobs = own_logprobs(model, example)
        entropies = -(logprobs.exp() * logprobs).sum(-1)
        chosen = logprobs.gather(1, torch.tensor(example.completion_tokens)[:, None])[:, 0]
        for ours, theirs in ((example.student_logprobs, chosen), (example.entropies, entropies)):
            worst = max(worst, float((torch.tensor(ours) - theirs).abs().max()))
    return worst if worst > NATS or worst != worst else 0.0


def _gradients(ours: StudentWithLoss, theirs: Any, layouts: Sequence[Layout]) -> float:
    """Of one step: a weighted loss by dcod, in each layout, and by a plain loop over own logits."""
    traces = examples(theirs)
    weights = torch.rand(sum(size for _, size in SIZES), generator=torch.Generator().manual_seed(2))
    theirs.train()
    for example, some in zip(traces, weights.split([len(e.completion_tokens) for e in traces]), strict=True):
        logprobs = own_logprobs(theirs, example)
        (-some * logprobs.gather(1, torch.tensor(example.completion_tokens)[:, None])[:, 0]).sum().backward()
    worst = 0.0
    for layout in layouts:
        ours.zero_grad()
        ours.train()(collate(traces, layout=layout), lambda *_: weights, Objective(), False)[0].backward()
        apart = size = torch.zeros((), dtype=torch.float64)
        for one, other in zip(ours.model.parameters(), theirs.parameters(), strict=True):
            zero = torch.zeros_like(other)
            mine, known = (zero if p.grad is None else p.grad for p in (one, other))
            apart = apart + (mine - known).double().square().sum()
            size = size + known.double().square().sum()
        share = float((apart / size).sqrt())
        worst = share if share != share else max(worst, share)
    theirs.eval()
    return worst if worst > SHARE or worst != worst else 0.0


def _generated(engine: TransformersEngine) -> str:
    prompts = [example.prompt_tokens for example in examples(engine.model)]
    sampling = Sampling(max_new_tokens=NEW)
    together, alone = (engine.generate(prompts, sampling, size) for size in (len(prompts), 1))
    different = sum(one.token_ids != other.token_ids for one, other in zip(together, alone, strict=True))
    return f"{different} of {len(prompts)} texts differ" if different else ""


def _line(error: BaseException) -> str:
    return one_line(error)[:120]
