"""`python -m bench.scaling`: time and peak memory of a training step against sequence length and vocabulary.

A small Llama on random tokens, half of each trace counted; dcod's loop, and the plain loop with the full logits beside
it. Every point runs in a fresh process. A step holds the same number of tokens at every point of a row.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.training import jobs
from bench.training.__main__ import ROOT, child
from dcod import storage
from dcod.score.scores import write_scores
from dcod.traces.scored import ScoredTrace

RESULTS = ROOT / "bench" / "results" / "scaling.json"
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
VOCABULARIES = (8192, 16_384, 32_768, 65_536, 131_072, 262_144)
TOKENS, SHORT, USUAL = 8192, 512, 32_768  # of a step; length and vocabulary of the other row
MOST_LOGITS = 2**30  # of the plain loop: it holds several copies of 4 bytes each
CONTESTANTS = ("dcod, SFT", "dcod, surprisal live", "plain loop")


def prepare(folder: Path, length: int, vocabulary: int, tokens: int, threads: int) -> None:
    """A job of two steps: the first warms up."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=True, max_position_embeddings=length, **shape)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    each = tokens // length
    examples = []
    for index in range((jobs.WARM_UP + 1) * each):
        ids = torch.randint(vocabulary, (length,)).tolist()
        zeros = [0.0] * (length - length // 2)
        examples.append(ScoredTrace(str(index), str(index), ids[: length // 2], ids[length // 2 :], zeros, zeros))
    write_scores(folder / "scores.parquet", examples, ["train"] * len(examples))
    jobs.save(folder, jobs.Job(str(folder / "model"), traces_per_step=each, threads=threads))


def points() -> Iterator[tuple[str, int, int]]:
    """Row, length and vocabulary of every point."""
    yield from (("length", length, USUAL) for length in LENGTHS)
    yield from (("vocabulary", SHORT, vocabulary) for vocabulary in VOCABULARIES)


def main(
    repetitions: int = 3,
    tokens: Annotated[int, typer.Option(help="Of a step; at least the longest length.")] = TOKENS,
    threads: Annotated[int, typer.Option(help="With 1, processor time is what to compare.")] = 1,
    results: Path = RESULTS,
) -> None:
    """Measures and writes time and memory."""
    rows: list[dict[str, Any]] = []
    print(f"{'':11}{'length':>7}{'vocabulary':>12}  {'':22}tokens/CPU s  GiB above the model", flush=True)
    for kind, length, vocabulary in points():
        with tempfile.TemporaryDirectory() as scratch:
            prepare(Path(scratch), length, vocabulary, tokens, threads)
            names = [n for n in CONTESTANTS if n != "plain loop" or tokens * vocabulary <= MOST_LOGITS]
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for _ in range(repetitions):
                for name in names:
                    found, _busy = child(threads, "bench.training.contestant", scratch, name)
                    runs[name].append(found)
        for name, measured in runs.items():
            row = {
                "row": kind,
                "length": length,
                "vocabulary": vocabulary,
                "who": name,
                "tokens_per_second": [round(m["tokens"] / m["seconds"], 1) for m in measured],
                "tokens_per_cpu_second": [round(m["tokens"] / m["cpu_seconds"], 1) for m in measured],
                "above_model_gib": round(statistics.median(m["above_model_bytes"] for m in measured) / 2**30, 3),
            }
            rows.append(row)
            rate = statistics.median(row["tokens_per_cpu_second"])
            print(
                f"{kind:11}{length:7}{vocabulary:12}  {name:22}{rate:12.0f}{row['above_model_gib']:10.2f}",
                file=sys.stdout,
                flush=True,
            )
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, no GPU, {threads} threads, float32",
        "step": f"{tokens} tokens, Llama of hidden size 256 and 4 layers",
        "points": rows,
    }
    storage.write_json(results, found)


if __name__ == "__main__":
    typer.run(main)
