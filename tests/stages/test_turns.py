"""Turns from rows to a saved folder: what is taught, and that plain transformers stops there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from dcod.engines import Sampling
from dcod.engines.transformers import TransformersEngine
from dcod.score import parts
from dcod.stages import ingest
from dcod.traces import prompts, turns
from tests import families
from tests.stages.test_ingest import Ingest, response


def taught(found: Any) -> list[str]:
    return [trace.completion for trace in found.traces]


@pytest.mark.parametrize(
    "mark",
    ["<end_of_turn>", "<eos>", "<pad>", "<|end|>", "<|return|>", "<|eom_id|>", "<|END_OF_TURN_TOKEN|>", "</s>",
     "<turn|>", "<｜end▁of▁sentence｜>", "<|eot_id|>\n", "<end_of_turn>\n<eos>", "<|im_end|>\n<|endoftext|>", "[EOS]",
     "<|eot|> "],
)  # fmt: skip
def test_marks_at_the_end_of_a_text_go(tmp_path: Path, mark: str) -> None:
    run = Ingest(tmp_path, families.save(tmp_path / "gemma", "gemma"))
    found = run(response(2, f"so \\boxed{{4}}{mark}"), cut_run_on=False)
    assert taught(found) == ["so \\boxed{4}"]
    assert found.counts["changes"] == {"end_mark": 1}


def test_tags_of_thoughts_and_answers_are_no_marks(tmp_path: Path) -> None:
    run = Ingest(tmp_path, families.save(tmp_path / "command", "command"))
    texts = ["[THINK]2[/THINK]\\boxed{4}", "<think>It is \\boxed{4}.</think> #### 4"]
    assert taught(run(*(response(2, text) for text in texts))) == texts


def test_rows_that_a_template_refuses_and_texts_with_an_end_inside(tmp_path: Path) -> None:
    run = Ingest(tmp_path, families.save(tmp_path / "gemma", "gemma"))
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    answer = {"role": "assistant", "content": "\\boxed{4}"}
    found = run(
        {"messages": [*asked, answer], "gold": "4"},
        {"messages": [asked[1], answer], "gold": "4"},
        response(3, "\\boxed{6}<eos> and so on"),
        cut_run_on=False,
    )
    assert found.reasons() == {1: "template", 3: "end_inside"}
    assert "System role not supported" in found.quarantine[0]["message"]


def test_rows_that_the_student_would_not_see_as_they_are(tmp_path: Path) -> None:
    student = families.save(tmp_path / "student", "chatml")
    fast = families.tokenizer("chatml")
    fast.backend_tokenizer.normalizer = normalizers.NFKC()
    fast.chat_template = families.CHATML.replace("{{ m.content }}", "{{ m.content.split('\\n\\n')[0] }}").replace(
        "{% for m in messages %}", "{% for m in messages if m.role != 'system' %}"
    )
    fast.save_pretrained(student)
    asked, answer = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "\\boxed{4}"}
    found = Ingest(tmp_path, student)(
        {"messages": [{"role": "system", "content": "Be brief."}, asked, answer], "gold": "4"},
        {"messages": [{**asked, "content": "Is <|pad|> 2+2?"}, answer], "gold": "4"},
        {"messages": [{**asked, "content": "Is 2² 4?"}, answer], "gold": "4"},
        response(2, "2² is \\boxed{4}"),
        response(2, "<|pad|> \\boxed{4}"),
        {"messages": [{**asked, "content": "2+2?\n\nIn base 9."}, answer], "gold": "4"},
        {"messages": [asked, answer], "gold": "4"},
        cut_run_on=False,
    )
    assert found.reasons() == {
        1: "template", 2: "control_token", 3: "other_text", 4: "other_text", 5: "control_token"
    }  # fmt: skip
    assert found.counts["changes"] == {"prompt_cut": 1}
    assert "1 trace has a turn of which the student's chat template leaves a part out" in ingest.table(found.out)


def test_recorded_tokens_are_one_whole_turn_or_refused(tmp_path: Path) -> None:
    student = families.save(tmp_path / "gemma", "gemma")
    fast = prompts.load_tokenizer(student)
    body = fast("#### 4", add_special_tokens=False)["input_ids"]
    end, eos, line = 4, 2, fast("\n", add_special_tokens=False)["input_ids"]

    def row(ids: list[int]) -> dict[str, Any]:
        return {
            "prompt": [{"role": "user", "content": f"2+2+{len(ids)}-{len(ids)}, {sum(ids)}?"}],
            "completion": "#### 4",
            "gold": "4",
            "token_ids": ids,
            "behavior_logprobs": [-0.5] * len(ids),
            "tokenizer_digest": prompts.tokenizer_digest(fast),
        }

    rows = [[*body, end], [*body, eos], body, [*body, end, *line, eos], [*body, end, *body]]
    found = Ingest(tmp_path, student)(*map(row, rows))
    assert [trace.token_ids for trace in found.traces] == [[*body, end], [*body, eos], [*body, end]]
    assert [len(trace.behavior_logprobs or []) for trace in found.traces] == [len(body) + 1] * 3
    assert found.reasons() == {3: "no_end", 5: "run_on"}
    assert found.counts["changes"] == {"end_mark": 1}


def test_a_stop_string_is_taught_as_an_end_and_counted(tmp_path: Path) -> None:
    """Rows of vLLM and of its server, with recorded tokens and with text alone."""
    student = families.save(tmp_path / "chatml", "chatml")
    fast = prompts.load_tokenizer(student)
    ids, end = fast("#### 4</b>", add_special_tokens=False)["input_ids"], turns.of(fast).last
    digest = prompts.tokenizer_digest(fast)

    def asked(number: int) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": f"2+2, {number} times?"}], "gold": "4"}

    def engine(number: int, reason: Any, **more: Any) -> dict[str, Any]:
        output = {"text": "#### 4", "token_ids": ids, "finish_reason": "stop", "stop_reason": reason, **more}
        params = {"temperature": 1.0, "top_p": 1.0, "stop": ["</b>"]}
        return {**asked(number), "tokenizer_digest": digest, "sampling_params": params, "outputs": [output]}

    def server(number: int, reason: Any) -> dict[str, Any]:
        content = [{"token": letter, "logprob": -0.5} for letter in "#### 4</b>"]
        choice = {"message": {"content": "#### 4"}, "logprobs": {"content": content}, "finish_reason": "stop"}
        return {**asked(number), "temperature": 1, "top_p": 1, "choices": [{**choice, "stop_reason": reason}]}

    values = [{str(token): {"logprob": -0.5}} for token in ids]
    own = {"prompt": asked(7)["messages"], "completion": "#### 4", "gold": "4", "token_ids": ids, "stop_reason": "</b>"}
    found = Ingest(tmp_path, student)(
        engine(1, "</b>", logprobs=values),
        engine(2, "</b>"),
        engine(3, None, logprobs=values),
        engine(4, "b>", logprobs=values),
        server(5, "</b>"),
        server(6, None),
        own | {"behavior_logprobs": [-0.5] * len(ids), "tokenizer_digest": digest},
        engine(8, "<|im_end|>"),
    )
    assert found.reasons() == {3: "no_end", 4: "no_end", 6: "bad_field"}
    assert found.counts["changes"] == {"stop_string": 4}
    for trace in (found.traces[0], found.traces[2], found.traces[3]):
        assert trace.token_ids == [*ids[:6], end]
        assert trace.behavior_logprobs == [-0.5] * 6 + [-2.0]
        example = parts.in_tokens(trace, fast, digest)
        assert (example.completion_tokens, example.behavior_logprobs) == (trace.token_ids, trace.behavior_logprobs)
    assert found.traces[1].token_ids is None
    assert parts.in_tokens(found.traces[1], fast, digest).completion_tokens == [*ids[:6], end]


@pytest.mark.parametrize(("family", "rank"), families.TRAINED)
def test_a_saved_folder_stops_where_dcod_stops(tmp_path: Path, family: str, rank: int) -> None:
    """The files of the start name an end that the template does not write. vLLM's is in tests/engines/test_vllm.py."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, asked = families.save_trained(tmp_path, family, rank, hidden=48)
    fast = prompts.load_tokenizer(tmp_path / "start")
    known = turns.of(fast)
    said = TransformersEngine(out, prompts.load_tokenizer(out)).generate(asked, Sampling(24), 4)
    assert not all(one.truncated for one in said)
    assert rank or not any(one.truncated for one in said)
    model, own = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ends = model.generation_config.eos_token_id
    assert model.config.eos_token_id == ends
    assert set(ends if isinstance(ends, list) else [ends]) == set(known.stops)
    for prompt, one in zip(asked, said, strict=True):
        ids = torch.tensor([prompt])
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        written = plain[0, len(prompt) :].tolist()
        more = written[len(one.token_ids) :]
        assert written[: len(one.token_ids)] == one.token_ids
        assert one.truncated or written[-1] in known.stops
        assert not more or (known.stop_text and more == [known.last])  # behind several tokens stands the tokenizer's
        assert own.decode(written, skip_special_tokens=True).startswith(one.text)
