"""vLLM in the process against transformers on one model, in the environment of vLLM: the same greedy tokens, the same
log-probs, those of the sampler in a record; `dcod teach` with it, and a folder that `dcod export` wrote."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from dcod.config import Config, EngineConfig
from dcod.engines import Sampling, by_name, reproduce
from dcod.engines.transformers import TransformersEngine
from dcod.models import loading
from dcod.traces import formats, prompts, turns
from dcod.traces.scored import ScoredTrace
from dcod.tracking import export
from tests import families
from tests.engines.test_recording import SETTINGS, policy
from tests.tiny import TWICE, save_tiny_teacher

if TYPE_CHECKING:
    from dcod.engines.vllm import VllmEngine

pytestmark = pytest.mark.vllm

TEXTS = ["What is 2 + 3?", "Tom has 3 pens and buys 4. How many pens has he?", "Name a colour.", *list(TWICE)[:3]]
NATS = 1e-3  # between the log-probs of two engines, float32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of DCOD_TEST_MODEL, else a tiny teacher whose head size vLLM's attention takes, and whose folder has
    generation settings that no record would tell."""
    given = os.environ.get("DCOD_TEST_MODEL")
    return Path(given) if given else hostile_teacher(tmp_path_factory.mktemp("tiny") / "teacher")


def hostile_teacher(folder: Path) -> Path:
    """Its generation_config.json would end a completion at a token that it writes all the time."""
    save_tiny_teacher(folder, TWICE, hidden=128)
    hash_token = prompts.load_tokenizer(folder).convert_tokens_to_ids("#")
    settings: dict[str, Any] = {"repetition_penalty": 5.0, "min_p": 0.5, "top_k": 2, "temperature": 0.1}
    settings |= {"do_sample": True, "eos_token_id": [2, hash_token]}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def exact(folder: Path) -> torch.nn.Module:
    return loading.load(folder, "float64").eval()


@pytest.fixture(scope="module")
def reference(folder: Path) -> TransformersEngine:
    return TransformersEngine(folder, prompts.load_tokenizer(folder))


@pytest.fixture(scope="module")
def engine(folder: Path, reference: TransformersEngine) -> Iterator[VllmEngine]:
    """One for all tests here: it takes its time to start."""
    found: Any = by_name.load(EngineConfig(name="vllm"), folder, reference.tokenizer, "float32")
    yield found
    found.llm.llm_engine.engine_core.shutdown()


@pytest.fixture(scope="module")
def asked(reference: TransformersEngine) -> list[list[int]]:
    return [prompts.encode_prompt(reference.tokenizer, prompts.prompt_for("as_is", text)) for text in TEXTS]


def assert_of_the_sampler(
    exact: torch.nn.Module, records: list[tuple[list[int], list[int], list[float]]], temperature: float, top_p: float
) -> None:
    """Prompt, tokens and log-probs: those of the tempered and truncated distribution, and of no other."""
    apart = []
    for prompt, tokens, logprobs in records:
        places = np.arange(len(tokens)), tokens
        wanted = policy(exact, prompt, tokens, temperature, top_p)[places]
        assert (wanted > 0).all()
        np.testing.assert_allclose(logprobs, np.log(wanted), atol=NATS)
        apart += list(abs(np.array(logprobs) - np.log(policy(exact, prompt, tokens, 1.0, 1.0)[places])))
    assert len(apart) >= 20
    assert (max(apart) > 100 * NATS) == ((temperature, top_p) != (1.0, 1.0)), "raw log-probs would pass as well"


@pytest.mark.parametrize(("temperature", "top_p"), SETTINGS)
def test_log_probs_are_of_the_tempered_and_truncated_distribution(
    engine: VllmEngine, exact: torch.nn.Module, asked: list[list[int]], temperature: float, top_p: float
) -> None:
    """Against the distribution computed alone, in float64."""
    drawn = engine.generate(asked, Sampling(24, temperature, top_p, seed=3, record=True, top_k=3), 8)
    records = [(prompt, said.token_ids, said.logprobs or []) for prompt, said in zip(asked, drawn, strict=True)]
    assert_of_the_sampler(exact, records, temperature, top_p)
    for prompt, said in zip(asked, drawn, strict=True):
        assert said.top_ids is not None
        assert said.top_logprobs is not None
        wanted = policy(exact, prompt, said.token_ids, temperature, top_p)
        for ids, values, row in zip(said.top_ids, said.top_logprobs, wanted, strict=True):
            assert len(ids) == min(3, (row > 0).sum())
            np.testing.assert_allclose(np.exp(values), row[ids], atol=NATS)
        assert (said.read, said.wrote) == (len(prompt), len(said.token_ids))


def test_greedy_tokens_and_log_probs_agree(
    engine: VllmEngine, reference: TransformersEngine, asked: list[list[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = reference.generate(asked, Sampling(48), 4), engine.generate(asked, Sampling(48), 4)
    examples = [ScoredTrace("t", "p", p, c.token_ids, [], []) for p, c in zip(asked, theirs, strict=True)]
    pairs = list(zip(engine.score(examples, 4096), reference.score(examples, 4096), strict=True))
    apart = [abs(a - b) for (left, _), (right, _) in pairs for a, b in zip(left, right, strict=True)]
    sums = [abs(sum(left) - sum(right)) for (left, _), (right, _) in pairs]
    same = sum(a.token_ids == b.token_ids for a, b in zip(ours, theirs, strict=True))
    with capsys.disabled():
        print(
            f"\n{same} of {len(TEXTS)} greedy completions equal ({sum(len(c.token_ids) for c in theirs)} tokens); "
            f"log-probs differ by at most {max(apart):.1e}, on average {sum(apart) / len(apart):.1e} nats; "
            f"summed over a completion by at most {max(sums):.1e}"
        )
    assert [(one.token_ids, one.text, one.truncated) for one in ours] == [
        (one.token_ids, one.text, one.truncated) for one in theirs
    ]
    assert max(apart) < NATS
    assert all(math.isnan(value) for (_, entropies), _ in pairs for value in entropies)


def test_a_prompt_s_tokens_hang_on_its_own_seed(engine: VllmEngine, asked: list[list[int]]) -> None:
    sampling = Sampling(24, temperature=1.0, top_p=0.9, seed=3)
    drawn = engine.generate(asked, sampling, 4)
    assert [one.token_ids for one in engine.generate(asked[:2], sampling, 1)] == [one.token_ids for one in drawn[:2]]
    other = engine.generate(asked, Sampling(24, temperature=1.0, top_p=0.9, seed=4), 4)
    assert [one.token_ids for one in other] != [one.token_ids for one in drawn]


def test_what_teach_records_is_of_the_sampler(folder: Path, exact: torch.nn.Module, tmp_path: Path) -> None:
    """The command as it is typed: vLLM starts its own processes, which import the main module again."""
    lines = [json.dumps({"problem": text, "gold": said.rpartition(" ")[2]}) for text, said in TWICE.items()]
    (tmp_path / "problems.jsonl").write_text("\n".join(lines))
    given = {"engine.name": "vllm", "attempts": 3, "asks": "as_is", "temperature": 1.3, "top_p": 0.9, "top_k": 2}
    given |= {"max_new_tokens": 24, "work": tmp_path / "work", "batch_size": 9}
    command = [sys.executable, "-m", "dcod", "teach", "--teacher", str(folder)]
    command += ["--prompts", str(tmp_path / "problems.jsonl"), "--out", str(tmp_path / "taught"), "--no-track"]
    command += [f"teach.{name}={value}" for name, value in given.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = pq.read_table(tmp_path / "taught" / "attempts.parquet").to_pylist()
    usage = json.loads((tmp_path / "taught" / "usage.json").read_text())
    assert len(rows) == usage["attempts"] == 3 * len(TWICE)
    assert len({tuple(row["token_ids"]) for row in rows}) > 3, "attempts have seeds of their own"
    assert usage["output_tokens"] == sum(len(row["token_ids"]) for row in rows)
    assert usage["sampler"]["engine"][0] == "vllm"
    tokenizer = prompts.load_tokenizer(folder)
    records = [
        (prompts.encode_prompt(tokenizer, row["prompt"]), row["token_ids"], row["behavior_logprobs"]) for row in rows
    ]
    assert_of_the_sampler(exact, records, 1.3, 0.9)
    ended = [row for row in rows if row["finish_reason"] == "stop"]
    assert ended
    for row in ended:
        trace = formats.get(formats.detect(row)).to_trace(row)
        assert trace.behavior_logprobs == row["behavior_logprobs"]
        assert (trace.temperature, trace.top_p) == pytest.approx((1.3, 0.9))


def test_a_fresh_process_reproduces_what_was_evaluated(
    engine: VllmEngine, folder: Path, asked: list[list[int]], tmp_path: Path
) -> None:
    """What a promotion asks for, of a model that was evaluated with vLLM."""
    reproduce.record(engine, asked, "vllm", Config(), tmp_path)
    found = reproduce.reproduce(folder, tmp_path / reproduce.FILE)
    assert found.holds, found.text
    assert found.text.startswith("4 of 4 recorded answers reproduced by a fresh process")


def test_an_exported_version_says_the_same_tokens(
    folder: Path, reference: TransformersEngine, asked: list[list[int]], tmp_path: Path
) -> None:
    from dcod.engines.vllm import VllmEngine
    from dcod.tracking.registry import Registry
    from dcod.tracking.runs import Tracker
    from tests.tracked import fresh_store

    tracker = Tracker(fresh_store(tmp_path / "store"))
    with tracker.stage("train", None, digest="t") as log:
        version = Registry(tracker).register("student-of-test", folder, log.run_id)
    export.export(tracker.config, version.uri, tmp_path / "exported")
    theirs = reference.generate(asked, Sampling(32), 4)
    ours = VllmEngine(tmp_path / "exported", reference.tokenizer).generate(asked, Sampling(32), 4)
    assert [one.token_ids for one in ours] == [one.token_ids for one in theirs]
    assert sum(len(one.token_ids) for one in ours) > 30


@pytest.mark.parametrize(("family", "rank"), families.TRAINED)
def test_a_saved_folder_stops_by_itself(tmp_path: Path, family: str, rank: int) -> None:
    """vLLM is told no end here: it takes those of the folder that `train` wrote, and stops where dcod stops."""
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    from dcod.engines.vllm import VllmEngine

    out, asked = families.save_trained(tmp_path, family, rank, hidden=128)
    tokenizer = prompts.load_tokenizer(out)
    known = turns.of(tokenizer)
    said = TransformersEngine(out, tokenizer).generate(asked, Sampling(24), 4)
    assert not all(one.truncated for one in said)
    engine: Any = VllmEngine(out, tokenizer)
    try:
        given = [TokensPrompt(prompt_token_ids=prompt) for prompt in asked]
        plain = SamplingParams(max_tokens=24, temperature=0.0)
        written = [list(one.outputs[0].token_ids) for one in engine.llm.generate(given, plain, use_tqdm=False)]
    finally:
        engine.llm.llm_engine.engine_core.shutdown()
    for one, tokens in zip(said, written, strict=True):
        more = tokens[len(one.token_ids) :]
        assert tokens[: len(one.token_ids)] == one.token_ids
        assert one.truncated or tokens[-1] in known.stops
        assert not more or (known.stop_text and more == [known.last])  # behind several tokens stands the tokenizer's
