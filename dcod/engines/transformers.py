"""The transformers engine: length-sorted batches, float32 on a CPU, the fused head for scoring."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    StoppingCriteria,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from dcod.engines.base import Completion, Sampling
from dcod.errors import UserError
from dcod.models import attention, fitting, loading
from dcod.models.batches import Layout, collate, micro_batches, to_device
from dcod.models.fused_head import Seen, scored
from dcod.models.layouts import Padding, check_writing, exact_layout, exact_padding, writes_across
from dcod.models.selfcheck import Reading, examine
from dcod.progress import track
from dcod.traces import turns
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Statistic = Callable[[Seen], Mapping[str, Tensor]]  # numbers of tokens [n], by the names of their fields


class TransformersEngine:
    """Runs one model folder on the GPU, or on the CPU where there is none; or a model in training, where it is.

    Implements :class:`dcod.engines.Engine`. Not run on a GPU: `bench/gpu` and `tests/gpu` are the checks.
    """

    _checked = False  # whether what it writes goes by what scores
    batches = 0  # scored
    read, seconds = 0, 0.0  # tokens and time of all of them but the first, slower one

    def __init__(
        self, model: Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dtype: str = "float32"
    ) -> None:
        self.tokenizer = tokenizer
        self.model: Any = model  # its class depends on the checkpoint
        if isinstance(model, Path):
            self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            loaded: Any = loading.load(model, dtype)
            self.model = loaded.to(self.device).eval()
            # A folder's own generation settings (a repetition penalty, min-p) are no part of what a Sampling says.
            self.model.generation_config = GenerationConfig()
        else:
            self.device = model.device

    @cached_property
    def reading(self) -> Reading:
        """How hidden states become logits."""
        return examine(self.model)

    @cached_property
    def layout(self) -> Layout:
        """How batches are laid out for scoring."""
        return exact_layout(self.model, self.reading, "padded")

    @cached_property
    def padding(self) -> Padding:
        """Which prompts are written to in one batch; what is not usual is said once."""
        side = exact_padding(self.model, self._pad)
        if side != "left":
            way = "prompts of equal length alone share a batch" if side == "equal" else "each is written to alone"
            print(f"student: a left-padded prompt would be answered otherwise, so {way}: slower", file=sys.stderr)
        return side

    @cached_property
    def _writes_across(self) -> bool:
        """As :func:`dcod.models.layouts.writes_across`; what comes of it is said once."""
        able = writes_across(self.model, self._pad)
        if able:
            print(
                "student: where a text grows beyond a length of its configuration (longrope) the positions of all its "
                "tokens change, so its earlier tokens are not scored as they were written; prompts of equal length "
                "alone share a batch: slower",
                file=sys.stderr,
            )
        return able

    def _crosses(self, sizes: Sequence[int], new: int) -> bool:
        """Whether answers of ``new`` tokens grow beyond the length at which rotary positions change.

        Raises:
            UserError: they do, and this model cannot write so.
        """
        border = fitting.rotary_border(self.model.config)
        if border is None or max(sizes, default=0) + new <= border[1]:
            return False
        kind, most = border
        if kind == "longrope" and min(sizes) > most:
            return False
        if kind == "dynamic" or not self._writes_across:
            raise UserError(
                f"{max(sizes)} tokens of a prompt and {new} to write: beyond {most} the rotary positions of this model "
                f"({kind}) change with the length of the text, and those that it keeps of earlier tokens do not; lower "
                "max_new_tokens"
            )
        return True

    @property
    def _pad(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(turns.of(self.tokenizer).last if pad is None else pad)

    @torch.no_grad()  # what inference mode leaves in a model that is trained on, no backward pass may read
    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:
        """One completion per prompt, each drawn with a seed of its own; batches of like length, left-padded."""
        tokenizer = self.tokenizer
        ends, pad = turns.of(tokenizer), self._pad
        if not self._checked:
            check_writing(self.model, self._pad)
            self._checked = True
        batches = self._batches([len(prompt) for prompt in prompts], batch_size, sampling.max_new_tokens)
        out: list[Completion | None] = [None] * len(prompts)
        choice: dict[str, object] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        seeds = sampling.seeds_of(prompts)
        for batch in track(batches, "generate"):
            width = max(len(prompts[i]) for i in batch)
            ids = torch.full((len(batch), width), pad, dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, width - len(prompts[i]) :] = torch.tensor(prompts[i])
                mask[row, width - len(prompts[i]) :] = 1
            drawing = (
                _Drawing(sampling, [seeds[i] for i in batch]) if sampling.temperature > 0 or sampling.record else None
            )
            written = self.model.generate(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=sampling.max_new_tokens,
                eos_token_id=list(ends.stops),
                pad_token_id=pad,
                stopping_criteria=[_AtText(tokenizer, width)] if ends.stop_text else [],
                logits_processor=[drawing] if drawing else [],
                **choice,
            )[:, width:].tolist()
            for row, i in enumerate(batch):
                tokens = written[row]
                whole = turns.ended(tokenizer, tokens)
                kept = tokens[:whole] if whole else tokens
                text = turns.text_of(tokenizer, kept)
                record = drawing.of(row, len(kept)) if drawing and sampling.record else {}
                out[i] = Completion(text, kept, truncated=not whole, read=len(prompts[i]), wrote=len(kept), **record)
        return [c for c in out if c is not None]

    def _batches(self, sizes: Sequence[int], batch_size: int, new: int) -> list[list[int]]:
        """Prompts by number, those of like length together, as far as this model writes to them as to each alone."""
        order = sorted(range(len(sizes)), key=sizes.__getitem__)
        crosses = self._crosses(sizes, new)
        if min(batch_size, len(sizes)) > 1:
            if self.padding == "none":
                batch_size = 1
            elif self.padding == "equal" or crosses:
                alike = [list(group) for _, group in groupby(order, key=sizes.__getitem__)]
                return [group[i : i + batch_size] for group in alike for i in range(0, len(group), batch_size)]
        return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]

    def score(self, examples: Sequence[ScoredTrace], batch_tokens: int) -> list[tuple[list[float], list[float]]]:
        """Log-prob and entropy of every completion token, nats, in the order of the examples."""
        copies = [replace(example) for example in examples]
        self.annotate(copies, batch_tokens)
        return [(copy.student_logprobs, copy.entropies) for copy in copies]

    def annotate(
        self, examples: Sequence[ScoredTrace], batch_tokens: int, top_k: int = 0, also: Sequence[Statistic] = ()
    ) -> None:
        """Writes log-probs and entropies into the examples, and what else is asked for; one pass.

        Args:
            examples: the traces, changed in place.
            batch_tokens: padded tokens per forward pass.
            top_k: how many of the model's likeliest tokens to record at each position.
            also: what else is made of the same logits, and recorded by the names of its fields.
        """
        layout, body, head = self.layout, self.reading.body, self.reading.head(self.model)
        for group in track(micro_batches(examples, batch_tokens, layout=layout), "score"):
            began = time.monotonic()
            with torch.inference_mode():
                batch = to_device(collate(group, self._pad, layout), self.device)
                hidden = attention.hidden_states(self.model, batch, body)
                look = _Look(also)
                logprobs, entropies, top = scored(hidden, head, batch.targets, top_k, look if also else None)
            values = {"student_logprobs": logprobs, "entropies": entropies, **look.values()}
            if top_k:
                values |= {"start_top_ids": top.ids, "start_top_logprobs": top.logprobs}
            sizes = [len(example.completion_tokens) for example in group]
            for name, parts in values.items():
                for example, part in zip(group, parts.cpu().split(sizes), strict=True):
                    setattr(example, name, part.tolist())
            if self.batches:
                self.read, self.seconds = self.read + sum(map(len, group)), self.seconds + time.monotonic() - began
            self.batches += 1


class _Look:
    """Keeps what statistics say of the logits of a batch, which come some tokens at a time."""

    def __init__(self, statistics: Sequence[Statistic]) -> None:
        self.statistics, self.found = statistics, dict[str, list[Tensor]]()

    def __call__(self, seen: Seen) -> None:
        for statistic in self.statistics:
            for name, values in statistic(seen).items():
                self.found.setdefault(name, []).append(values.clone())  # a view would hold, and change with, the logits

    def values(self) -> dict[str, Tensor]:
        """All of it, by the names of fields [N]."""
        return {name: torch.cat(parts) for name, parts in self.found.items()}


class _AtText(StoppingCriteria):
    """Ends a row at an end of turn that is several tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, width: int) -> None:
        self.tokenizer, self.width = tokenizer, width

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:  # noqa: ARG002
        done = [bool(turns.ended(self.tokenizer, row)) for row in input_ids[:, self.width :].tolist()]
        return torch.tensor(done, device=input_ids.device)


class _Drawing(LogitsProcessor):
    """Draws the tokens itself, and keeps the log-probs where they are asked for; generate() takes the only token left.

    So the record cannot differ from the sampler, and a row's tokens depend on its own seed alone. The warpers are
    transformers' own.
    """

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        assert sampling.temperature > 0, "a greedy choice has no distribution to record"
        self.warpers: list[Any] = [TemperatureLogitsWarper(sampling.temperature)] if sampling.temperature != 1 else []
        self.warpers += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.record, self.top_k = sampling.record, sampling.top_k
        self.logprobs: list[Tensor] = []  # a step: [B]
        self.tops: list[tuple[Tensor, Tensor]] = []  # a step: log-probs and ids [B, K]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for warper in self.warpers:
            scores = warper(input_ids, scores)
        logprobs = scores.log_softmax(-1)
        mass = logprobs.double().exp().cumsum(-1)
        drawn = torch.cat([torch.rand(1, generator=one, dtype=torch.float64) for one in self.generators])
        # The first token whose mass reaches beyond the number drawn; one without any mass is never it.
        tokens = torch.searchsorted(mass, drawn.to(mass.device)[:, None] * mass[:, -1:], right=True)
        if self.record:
            self.logprobs.append(logprobs.gather(-1, tokens)[:, 0].cpu())
        if self.record and self.top_k:
            values, ids = logprobs.topk(min(self.top_k, logprobs.shape[-1]), dim=-1)
            self.tops.append((values.cpu(), ids.cpu()))
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens, 0.0)

    def of(self, row: int, size: int) -> dict[str, Any]:
        """What was recorded for the first tokens of a row, as fields of a :class:`Completion`."""
        record: dict[str, Any] = {"logprobs": [float(step[row]) for step in self.logprobs[:size]]}
        if self.top_k:
            kept = [(v[row][v[row] > -torch.inf], i[row][v[row] > -torch.inf]) for v, i in self.tops[:size]]
            record |= {
                "top_ids": [ids.tolist() for _, ids in kept],
                "top_logprobs": [values.tolist() for values, _ in kept],
            }
        return record
