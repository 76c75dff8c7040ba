"""The steps of ingest that are chosen by configuration, what they count, and what a trace set says about itself."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcod.errors import UserError
from dcod.reports import data_card
from dcod.storage import parquet
from dcod.traces import Trace, holdings, mapping, prompts, read_traces, reading, tokenizer_of, write_traces
from tests.stages.test_ingest import Ingest, Ingested, response, solved


@pytest.fixture
def run(tmp_path: Path, tiny_student: Path) -> Ingest:
    return Ingest(tmp_path, tiny_student)


def completions(found: Ingested) -> list[str]:
    return [trace.completion for trace in found.traces]


def test_thoughts_are_kept_tagged_or_stripped(run: Ingest) -> None:
    texts = [
        "<think>\nTwo.\n</think>\n\\boxed{2}",
        "Two.\n</think>\n\\boxed{4}",
        "<|begin_of_thought|>Two.<|end_of_thought|>\n<|begin_of_solution|>\\boxed{6}<|end_of_solution|>",
        "<reasoning>Two.</reasoning> \\boxed{8}",
        "<thought>Two. So \\boxed{10}",
    ]
    rows = [response(n, text) for n, text in enumerate(texts, start=1)]
    kept = run(*rows, keep="all")  # no answer is found inside a thought that never ends
    assert completions(kept) == texts
    assert kept.counts["changes"] == {"thought_closed": 3, "thought_unopened": 1, "thought_unclosed": 1}
    tagged = run(*rows, thoughts="tag", keep="all")
    assert completions(tagged) == [
        texts[0],
        "<think>\nTwo.\n</think>\n\\boxed{4}",
        "<think>Two.</think>\n\\boxed{6}",
        "<think>Two.</think> \\boxed{8}",
        "<think>Two. So \\boxed{10}",
    ]
    assert tagged.counts["changes"]["tag"] == 4
    stripped = run(*rows, thoughts="strip")
    assert completions(stripped) == ["\\boxed{2}", "\\boxed{4}", "\\boxed{6}", "\\boxed{8}"]
    assert stripped.reasons() == {5: "thought"}
    assert "nothing is left without the thought, which is unclosed" in stripped.quarantine[0]["message"]


def test_recorded_tokens_keep_their_thought_or_are_refused(run: Ingest) -> None:
    row = {"prompt": [{"role": "user", "content": "3+3?"}], "completion": "<thought>3</thought> #### 6", "gold": "6"}
    row |= {"token_ids": [5, 2], "behavior_logprobs": [-1.0, -0.5]}
    found = run(row, solved(1), thoughts="tag")
    assert found.reasons() == {1: "thought"}
    assert completions(run(row))[0] == row["completion"]


def test_steps_can_be_turned_off(run: Ingest) -> None:
    loop, on = response(1, "\\boxed{2} " + "again. " * 100), response(2, "\\boxed{4}\nQuestion: What next?")
    found = run(loop, on)
    assert (found.reasons(), completions(found)) == ({1: "repetition"}, ["\\boxed{4}"])
    found = run(loop, on, refuse_loops=False, cut_run_on=False)
    assert completions(found) == [loop["response"], on["response"]]


ENGLISH = "First we write down what is known, then we add the two numbers and look at what we get."
GERMAN = "Zuerst schreiben wir auf, was bekannt ist, dann addieren wir die beiden Zahlen und sehen, was wir haben."


def test_completions_in_other_languages(run: Ingest) -> None:
    rows = [response(n, f"{text} \\boxed{{{2 * n}}}") for n, text in enumerate((ENGLISH, GERMAN, "1 + 1"), start=1)]
    found = run(*rows, languages=["en"])
    assert found.reasons() == {2: "language"}  # formulas say nothing about a language
    assert "the completion is in de; ingest.languages: en" in found.quarantine[0]["message"]
    assert len(run(*rows, languages=["de", "en"]).traces) == 3
    assert len(run(*rows).traces) == 3
    with pytest.raises(UserError, match=r"zh-cn is not known; known: .*zh"):
        run(*rows, languages=["en", "zh-cn"])


def test_near_duplicates_name_the_trace_that_they_repeat(run: Ingest) -> None:
    words = [f"word{n}" for n in range(120)]
    changed = [*words[:60], "other", *words[61:]]
    rows = [
        response(2, f"{' '.join(words)} \\boxed{{4}}"),
        response(2, f"{' '.join(changed)} \\boxed{{4}}"),
        response(2, f"{' '.join(reversed(words))} \\boxed{{4}}"),
        response(2, f"{' '.join(words)} \\boxed{{4}}"),
    ]
    found = run(*rows, near_duplicates=0.8)
    assert found.reasons() == {2: "near_duplicate", 4: "duplicate"}
    assert {row["duplicate_of"] for row in found.quarantine} == {found.traces[0].trace_id}
    assert "of its word triples are those of trace" in found.quarantine[0]["message"]
    assert run(*rows, near_duplicates=0.99).reasons() == {4: "duplicate"}
    assert run(*rows).reasons() == {4: "duplicate"}
    more = run(rows[1], solved(1), near_duplicates=0.8, earlier={"onto": found.out})
    assert more.counts["quarantined"] == {"duplicate": 1, "near_duplicate": 2}


def test_a_trace_that_was_refused_makes_no_other_a_duplicate(run: Ingest) -> None:
    words = " ".join(f"word{n}" for n in range(40))
    found = run(
        response(2, f"{words} {'x' * 400} \\boxed{{4}}"), response(2, f"{words} \\boxed{{4}}"),
        near_duplicates=0.5, max_length=500,
    )  # fmt: skip
    assert found.reasons() == {1: "too_long"}


def openai(texts: list[str], completion: str) -> dict[str, Any]:
    content = [{"token": text, "bytes": list(text.encode()), "logprob": -0.5} for text in texts]
    message = {"role": "assistant", "content": completion}
    choice = {"finish_reason": "stop", "message": message, "logprobs": {"content": content}}
    request = {"messages": [{"role": "user", "content": "2+2?"}], "temperature": 1.0, "top_p": 1.0}
    return {"choices": [choice], "request": request, "gold": "4"}


def test_texts_of_sampled_tokens_become_the_students_tokens_only_where_they_are_the_same(
    run: Ingest, tiny_student: Path
) -> None:
    tokenizer = prompts.load_tokenizer(tiny_student)
    digest, end = prompts.tokenizer_digest(tokenizer), tokenizer.eos_token
    same, coarse, open_end = (
        run(openai(texts, "#### 4")).traces[0]
        for texts in ([*"#### 4", end], ["####", " 4", end], list("#### 4"))  # the student has a token a byte
    )
    assert same.token_ids == prompts.encode_completion(tokenizer, "#### 4")
    assert (same.tokenizer_digest, same.behavior_logprobs) == (digest, [-0.5] * 7)
    for other, size in ((coarse, 3), (open_end, 6)):  # only the total is known
        assert (other.token_ids, other.tokenizer_digest, other.behavior_logprobs) == (None, None, [-0.5] * size)


def test_text_with_recorded_logprobs_is_not_changed(run: Ingest) -> None:
    text = "<<2+2=4>>#### 4"
    assert run(openai([text], text)).traces[0].completion == text
    assert completions(run(response(2, text))) == ["#### 4"]


def test_characters_of_several_tokens_are_not_mapped(tiny_student: Path) -> None:
    tokenizer = prompts.load_tokenizer(tiny_student)
    trace = Trace([{"role": "user", "content": "?"}], "é", behavior_logprobs=[-1.0] * 2)
    trace.sampled_texts = ["é", tokenizer.eos_token]
    assert mapping.student_tokens(trace, tokenizer, "d").token_ids is None


def test_token_ids_outside_the_students_vocabulary(run: Ingest, tiny_student: Path) -> None:
    digest = prompts.tokenizer_digest(prompts.load_tokenizer(tiny_student))
    row = {"prompt": [{"role": "user", "content": "3+3?"}], "completion": "#### 6", "gold": "6"}
    row |= {"token_ids": [5, 100_000], "behavior_logprobs": [-1.0, -0.5]}
    found = run(row | {"tokenizer_digest": digest}, row | {"tokenizer_digest": "another"})
    assert found.reasons() == {1: "bad_field"}
    assert "token 100000: the student's vocabulary has 259" in found.quarantine[0]["message"]
    assert found.traces[0].tokenizer_digest == "another"


def test_what_others_record_badly_is_refused(run: Ingest) -> None:
    row = {"prompt": [{"role": "user", "content": "3+3?"}], "completion": "#### 6", "gold": "6", "token_ids": [5, 2]}
    found = run(
        row | {"behavior_logprobs": [-1.0, math.nan]},
        row | {"behavior_logprobs": [-1.0, -1.0, -1.0]},
        row | {"token_ids": [5, -1]},
        '{"prompt": [], "prompt": []}',
        response(1, "a\x00 \\boxed{2}"),
        json.dumps(solved(1)).encode("utf-16").decode("latin-1"),
        solved(1),
    )
    expected = ["bad_field"] * 3 + ["duplicate_key"] + ["bad_encoding"] * 2
    assert found.reasons() == dict(enumerate(expected, start=1))


def test_a_logprob_takes_at_most_four_bytes(tmp_path: Path) -> None:
    generator = random.Random(0)
    sizes = [generator.randrange(50, 400) for _ in range(300)]
    prompt = [{"role": "user", "content": "?"}]
    traces = [
        Trace(prompt, str(number), token_ids=[generator.randrange(50_000) for _ in range(size)],
              behavior_logprobs=[-generator.expovariate(2.0) for _ in range(size)])
        for number, size in enumerate(sizes)
    ]  # fmt: skip
    assert write_traces(tmp_path / "traces.parquet", traces) == len(traces)
    (shard,) = parquet.shards(tmp_path / "traces.parquet")
    meta = pq.read_metadata(shard)
    taken = {"behavior_logprobs": 0, "token_ids": 0}
    for group in range(meta.num_row_groups):
        for index in range(meta.num_columns):
            column = meta.row_group(group).column(index)
            name = column.path_in_schema.partition(".")[0]
            if name in taken:
                taken[name] += column.total_compressed_size
    per_token = {name: size / sum(sizes) for name, size in taken.items()}
    assert 2.0 < per_token["behavior_logprobs"] <= 4.0, per_token
    assert per_token["token_ids"] <= 4.0, per_token
    for before, after in zip(traces, read_traces(tmp_path), strict=True):
        assert after.behavior_logprobs == pytest.approx(before.behavior_logprobs, rel=1e-6)
        assert after.token_ids == before.token_ids


HOSTILE = "<script>alert('x')</script> | `code` [a](http://b) # *bold* <img src=x onerror=alert(1)>"


def test_the_data_card_escapes_what_traces_say(run: Ingest, tmp_path: Path) -> None:
    folder = tmp_path / "<b>odd|name"
    folder.mkdir()
    file = folder / "a.jsonl"
    rows = [
        response(1, f"{HOSTILE} \\boxed{{2}}", model=HOSTILE, licence="MIT"),
        {"problem": HOSTILE, "response": f"{HOSTILE}\n```\nno answer", "gold": "4"},
        solved(1),
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = run(sources=[str(file)])
    page, text = ((found.out / name).read_text() for name in (data_card.PAGE, data_card.TEXT))
    assert page.index('<p class="lead">2 of 3 traces accepted (66.7%); most were refused for no_answer (1)') > 0
    assert page.index('class="lead"') < page.index("<h2")
    assert "2 of 3 traces accepted (66.7%)" in text
    for written in (page, text.replace("    ", "")):
        assert "no_answer" in written.replace("\\", "")
        assert "correct" in written
    assert "<script" not in page
    assert "<img" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "MIT" in page
    assert found.files[str(file)]["digest"][:12] in page
    for line in text.splitlines():
        assert line.startswith("    ") or not ("<" in line or "*bold*" in line or "[a]" in line), line
    assert "Not scored yet" in text


def files(folder: Path, count: int) -> None:
    for number in range(3):
        rows: list[Any] = [solved(n % 40, prefix=f"In set {number % 2}, what is") for n in range(count)]
        rows += [response(n, "\\boxed{1}") for n in range(10)] + ["{broken"]
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        (folder / f"{number}.jsonl").write_text(text)
    pq.write_table(pa.Table.from_pylist([solved(n) for n in range(70)]), folder / "4.parquet")


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same(run: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    files(folder, 90)
    monkeypatch.setattr(reading, "BLOCK_ROWS", 7)
    options: dict[str, Any] = {"near_duplicates": 0.95, "limit": 60}
    alone, together = (run(sources=[str(folder)], workers=workers, **options) for workers in (1, 2))
    assert alone.counts["quarantined"].keys() >= {"duplicate", "bad_json", "wrong_answer", "over_limit"}
    for name in ("counts.json", "sources.json", data_card.PAGE):
        assert (alone.out / name).read_bytes() == (together.out / name).read_bytes()
    assert alone.traces == together.traces
    assert alone.quarantine == together.quarantine


def test_log_probs_behind_a_traces_own_system_prompt_stay_the_students_own(run: Ingest, tiny_student: Path) -> None:
    """Such a prompt is the same tokens whatever student.system_prompt says; one without is not."""
    tokenizer = prompts.load_tokenizer(tiny_student)
    ids = prompts.encode_completion(tokenizer, "#### 6")
    recorded = {"token_ids": ids, "behavior_logprobs": [-0.5] * len(ids), "gold": "6"}
    recorded |= {"tokenizer_digest": prompts.tokenizer_digest(tokenizer), "completion": "#### 6"}
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "3+3?"}
    rows = [{"prompt": [system, user], **recorded}, {"prompt": [user], **recorded}]
    for text, own in ((prompts.OF_TEMPLATE, 2), ("Be brief.", 1), ("Be long.", 1)):
        found = run(*rows, system_prompt=text)
        held = holdings.count(found.out, tokenizer_of(found.out))
        assert (held.logprobs, held.totals) == (own, 2)
