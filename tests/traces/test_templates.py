"""Prompts in the marks of chat templates are taken apart; a user's turn never holds such marks."""

from __future__ import annotations

import pytest

from dcod.traces import templates
from dcod.traces.items import taken

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Two and two?"}
PROMPTS = [
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTwo and two?<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user"
    "<|end_header_id|>\n\nTwo and two?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "<｜begin▁of▁sentence｜>Be brief.<｜User｜>Two and two?<｜Assistant｜>",
    "<bos><start_of_turn>system\nBe brief.<end_of_turn>\n<start_of_turn>user\nTwo and two?<end_of_turn>\n"
    "<start_of_turn>model\n",
    "<|system|>\nBe brief.<|end|>\n<|user|>\nTwo and two?<|end|>\n<|assistant|>\n",
    "<|start|>system<|message|>Be brief.<|end|><|start|>user<|message|>Two and two?<|end|><|start|>assistant",
    "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nTwo and two? [/INST]",
    "[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Two and two?[/INST]",
    "system\nBe brief.\nuser\nTwo and two?\nassistant\n",
    "Be brief. USER: Two and two? ASSISTANT:",
    "Be brief.\n\nHuman: Two and two?\n\nAssistant:",
    "Be brief.\n\n### Instruction:\nTwo and two?\n\n### Response:\n",
    "<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Two and two?"
    "<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>",
    "<extra_id_0>System\nBe brief.\n<extra_id_1>User\nTwo and two?\n<extra_id_1>Assistant\n",
    "<SPECIAL_10>System\nBe brief.\n<SPECIAL_11>User\nTwo and two?\n<SPECIAL_11>Assistant\n",
    "<|im_system|>system<|im_middle|>Be brief.<|im_end|><|im_user|>user<|im_middle|>Two and two?<|im_end|>"
    "<|im_assistant|>assistant<|im_middle|>",
    "[|system|]Be brief.[|endofturn|]\n[|user|]Two and two?[|endofturn|]\n[|assistant|]",
    "<seed:bos>system\nBe brief.<seed:eos><seed:bos>user\nTwo and two?<seed:eos><seed:bos>assistant\n",
    "<role>SYSTEM</role>Be brief.<|role_end|><role>HUMAN</role>Two and two?<|role_end|><role>ASSISTANT</role>",
    "<|system_start|>Be brief.<|system_end|><|user_start|>Two and two?<|user_end|><|assistant_start|>",
    "<|system|>Be brief.<|endoftext|><|prompter|>Two and two?<|endoftext|><|assistant|>",
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda text: text[:20])
@pytest.mark.parametrize("opening", ["", "<think>\n"])
def test_a_prompt_is_taken_out_of_its_template(prompt: str, opening: str) -> None:
    opening = "" if prompt.rstrip().endswith((":", "<|start|>assistant")) else opening  # they open no such thought
    found = templates.apart(prompt + opening)
    assert found is not None
    messages, opened = templates.opened(found)
    assert opened == opening.strip()
    assert [message for message in messages if message["role"] != "assistant"] == [SYSTEM, USER]


def test_a_first_turn_without_its_opening_is_the_users() -> None:
    text = "Two and two?\n<extra_id_1>Assistant\nFour.\n<extra_id_1>User\nAnd one?"
    assert templates.apart(text) == [
        USER, {"role": "assistant", "content": "Four."}, {"role": "user", "content": "And one?"},
    ]  # fmt: skip


def test_other_texts_are_left_alone() -> None:
    for text in ("user\nand assistant", "Compare <a> and [INSTALL].", "a <| b |> c", "system\nX"):
        assert templates.apart(text) is None
        assert templates.mark(text) == ""
    with pytest.raises(templates.RoleError, match="tool"):
        templates.apart("<|im_start|>tool\nx<|im_end|>\n")


def test_a_thought_that_the_prompt_opened_belongs_to_the_completion() -> None:
    row = {"prompt": f"{PROMPTS[0]}<think>\n", "completion": "Four.\n</think>\n\n\\boxed{4}"}
    (found,) = taken(row).items
    assert (found.prompt, found.completion) == ([SYSTEM, USER], "<think>\nFour.\n</think>\n\n\\boxed{4}")  # type: ignore[union-attr]


def test_marks_that_stay_in_a_users_turn_are_a_reason() -> None:
    chat = [{"role": "user", "content": "<|im_start|>user\nTwo?<|im_end|>"}, {"role": "assistant", "content": "2"}]
    (item,) = taken({"messages": chat}).items
    assert getattr(item, "code", "") == "template_marks"


STRIPPED = [
    "user\n2+2?\nmodel\n",
    "user\n2+2?\nassistant\n<think>\n",
    "user\n\n2+2?assistant\n\n",
    "User: 2+2?\nAssistant: ",
    "User: 2+2?\nAssistant: <think>",
    "### Instruction:\n2+2?\n\n### Output:\n",
    "### Instruction:\n2+2?\n\n### Response: Let's think step by step.",
    "2+2?<think>\n",
]


@pytest.mark.parametrize("text", STRIPPED, ids=repr)
def test_a_prompt_is_taken_out_of_what_is_left_of_a_template(text: str) -> None:
    assert templates.mark(text)
    messages, tag = templates.opened(templates.apart(text) or [])
    assert messages == [{"role": "user", "content": "2+2?"}]
    assert tag == ("<think>" if "<think>" in text else "")


def test_earlier_turns_and_system_prompts_in_what_is_left_of_a_template() -> None:
    chat = [("system", "Be terse."), ("user", "Hi."), ("assistant", "Hello."), ("user", "2+2?")]
    turns = [{"role": role, "content": said} for role, said in chat]
    lines = "".join(f"{role}\n{said}\n" for role, said in chat) + "assistant\n"
    glued = "".join(f"{role}\n\n{said}" for role, said in chat) + "assistant\n\n"
    assert templates.apart(lines) == templates.apart(glued) == turns
    assert templates.apart("Talk. User: 2+2? Assistant:") == [{"role": "system", "content": "Talk."}, turns[-1]]
    asked = "### Instruction:\nAdd.\n\n### Input:\n2+2?\n\n### Response:\n"
    assert templates.apart(asked) == [{"role": "user", "content": "Add.\n\n2+2?"}]


def test_turns_without_order_are_never_guessed() -> None:
    assert templates.mark("user\nWhat is a\nuser\n?\nassistant\n")
    with pytest.raises(templates.RoleError):
        templates.apart("user\nWhat is a\nuser\n?\nassistant\n")


@pytest.mark.parametrize(
    "text", ["Begin your answer with <think>", "The user says:\nhello\nassistant", "Is the User: field needed?", "user"]
)
def test_words_that_a_template_has_too_are_left_alone(text: str) -> None:
    assert templates.mark(text) == ""
    assert templates.apart(text) is None
