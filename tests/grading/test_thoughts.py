"""One table of thought tags: what is told apart, tagged and stripped, whatever family wrote it."""

from __future__ import annotations

import pytest

from dcod.grading import thoughts
from dcod.grading.extract import extract, thinking

# name: what opens the thought, what ends it; the answer stands behind
FAMILIES = {
    "think": ("<think>", "</think>"),
    "thinking": ("<thinking>", "</thinking>"),
    "Marco-o1": ("<Thought>", "</Thought>\n<Output>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "Reflection": ("<thinking>first<reflection>no</reflection>", "</thinking>\n<output>"),
    "Mistral": ("[THINK]", "[/THINK]"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "LongCat": ("<longcat_think>", "</longcat_think>"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "OpenThoughts": ("<|begin_of_thought|>", "<|end_of_thought|>\n<|begin_of_solution|>"),
    "solution alone": ("<|begin_of_thought|>", "<|begin_of_solution|>"),
    "Command A": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "gpt-oss, two thoughts": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "gpt-oss without special tokens": ("analysisWe", "assistantfinal"),
    "Gemma 4": ("<|channel>thought\n", "<channel|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "Ernie": ("<think>", "</think>\n\n<response>"),
    "fast": ("<think_fast>", "</think_fast>"),
    "K2": ("<ifm|think>", "</ifm|think>"),
    "Solar": ("<|think:start|>", "<|think:end|>"),
    "openPangu": ("[unused16]", "[unused17]"),
    "Gemini": ("<ctrl94>thought\n", "<ctrl95>"),
    "Claude's prompts": ("<antThinking>", "</antThinking>"),
    "reason": ("<reason>", "</reason>"),
    "reasoning_content": ("<reasoning_content>", "</reasoning_content>"),
    "attributes": ('<think time="5">', "</think>"),
    "for a page": ("&lt;think&gt;", "&lt;/think&gt;"),
    "Open WebUI": ('<details type="reasoning" done="true">', "</details>"),
    "ollama": ("Thinking...\n", "...done thinking.\n"),
    "gpt-oss, small letters": ("analysis\nwe", "assistantfinal"),
    "Granite": ("Here is my thought process:", "Here is my response:"),
    "Apriel": ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family(name: str) -> None:
    begin, end = FAMILIES[name]
    whole, cut = f"{begin}perhaps \\boxed{{3}}{end}\n\\boxed{{2}}", f"{begin}perhaps \\boxed{{3}} hmm"
    assert (thoughts.kind(whole), thoughts.kind(cut)) == ("closed", "unclosed")
    assert (thinking(whole), thinking(cut)) == (False, True)
    assert (thoughts.without(whole), thoughts.without(cut)) == ("\\boxed{2}", "")
    tagged = thoughts.tagged(whole)
    assert (tagged.count("<think>"), tagged.count("</think>")) == (1, 1)
    assert tagged.partition("</think>")[2].strip() == "\\boxed{2}"
    assert tagged.partition("</think>")[0].endswith("perhaps \\boxed{3}")
    assert thoughts.tagged(tagged) == tagged
    assert extract(whole) == "2"
    assert extract(f"{begin}perhaps \\boxed{{3}}{end}\nSo it is two.") is None
    alone = not (end[0].isalpha() or end.startswith(("...", "</details>")))  # these have other uses
    assert thoughts.kind(f"so\n{end}\n\\boxed{{2}}") == ("unopened" if alone else "")


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "I think: [think twice].",
        "analysis of x",
        "We analyse. Here is my response: 4",
        "a < b > c",
        "",
        "<details>more</details> of it",
        "[unused10]",
        "Thinking... about it",
    ],
)
def test_prose_is_no_thought(text: str) -> None:
    text = text.replace("[think twice]", "think twice")
    assert thoughts.kind(text) == ""
    assert thoughts.tagged(text) == thoughts.without(text) == text


def test_what_was_never_opened_is_opened() -> None:
    assert thoughts.tagged("Two.\n</think>\n\\boxed{4}") == "<think>\nTwo.\n</think>\n\\boxed{4}"
    assert thoughts.without("Two.\n</think>\n\\boxed{4}") == "\\boxed{4}"


@pytest.mark.parametrize("text", ["<|channel|>final<|message|>4", "<|START_RESPONSE|>4<|END_RESPONSE|>"])
def test_an_answer_with_no_thought_before_it(text: str) -> None:
    assert thoughts.kind(text) == ""
    assert thoughts.tagged(text) == thoughts.without(text) == "4"
    assert extract(f"{text} so \\boxed{{4}}") == "4"


def test_a_thought_behind_an_answer() -> None:
    text = "<think>a</think>b<think>c</think>d"
    assert (thoughts.tagged(text), thoughts.without(text)) == (text, "d")
    assert thoughts.kind(f"{text}<think>e") == "unclosed"


@pytest.mark.parametrize(
    ("prompt", "tag", "closing"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n", "</think>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "", ""),
        ("<|im_start|>user\nWhat does <think> mean?<|im_end|>\n<|im_start|>assistant\n", "", ""),
        ("[/INST][THINK]", "[THINK]", "[/THINK]"),
        ("<seed:think>", "<seed:think>", "</seed:think>"),
        ("◁think▷", "◁think▷", "◁/think▷"),
        ("<|begin_of_thought|>\n", "<|begin_of_thought|>\n", "<|end_of_thought|>"),
        ("<|START_THINKING|>", "<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|turn>model\n<|channel>thought\n", "<|channel>thought\n", "<channel|>"),
        (
            "<|start|>assistant<|channel|>analysis<|message|>",
            "<|channel|>analysis<|message|>",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
        ),
    ],
)
def test_a_prompt_that_opens_a_thought(prompt: str, tag: str, closing: str) -> None:
    assert thoughts.opened(prompt) == tag
    assert not tag or thoughts.closing(tag) == closing
    assert not tag or thoughts.kind(f"{tag}a{closing}b") == "closed"


@pytest.mark.parametrize("part", ["<think>", "<|end|> ", "<|channel|>analysis", "</think>", "<|start|>assistant", " "])
def test_a_hostile_text_costs_no_more_than_a_long_one(part: str) -> None:
    assert len(thoughts.marks(part * 50_000)) <= 50_000
