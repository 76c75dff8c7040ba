"""Content in chunks: text stays text, a thought stays a thought, and nothing is ever a printed list."""

from __future__ import annotations

from typing import Any

import pytest

from dcod.traces.chunks import ChunkError, Spoken, is_chunked, spoken

TEXT = {"type": "text", "text": "4"}
SAID: list[tuple[Any, Spoken]] = [
    ("4", Spoken("4")),
    ([], Spoken("")),
    ([TEXT, {"type": "output_text", "text": "2", "annotations": []}], Spoken("42")),
    (["4", {"text": "2"}], Spoken("42")),
    ([{**TEXT, "image_url": None, "thinking": None}], Spoken("4")),
    ([{"type": "text", "text": {"value": "4", "annotations": []}}], Spoken("4")),
    ([{"type": "thinking", "thinking": "hm", "signature": "s"}, TEXT], Spoken("4", "hm")),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"text": "m"}]}, TEXT], Spoken("4", "hm")),
    ([{"type": "reasoning", "text": "hm"}, {"type": "reasoning", "text": "so"}, TEXT], Spoken("4", "hm\n\nso")),
    ([{"type": "reasoning", "summary": []}, TEXT], Spoken("4")),
    ([{"text": "hm", "thought": True}, {"text": "4"}], Spoken("4", "hm")),
    ([{"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}, {"text": "4"}], Spoken("4", "hm")),
    ("[1, 2]", Spoken("[1, 2]")),
    ('[{"type": "circle", "r": 2}]', Spoken('[{"type": "circle", "r": 2}]')),
]
REFUSED: list[tuple[Any, str]] = [
    ({"type": "text", "text": "4"}, "got dict"),
    (None, "got NoneType"),
    ([TEXT, {"type": "tool_use", "name": "f", "input": {}}], "type 'tool_use' is no text"),
    ([{"type": "image_url", "image_url": {"url": "x"}}], "type 'image_url' is no text"),
    ([{"type": "redacted_thinking", "data": "xx"}, TEXT], "type 'redacted_thinking' is no text"),
    ([{"type": "refusal", "refusal": "I will not"}], "is no text: I will not"),
    ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}, TEXT], "a summary in place of the"),
    ([TEXT, {"type": "thinking", "thinking": "hm"}], "a thought behind a part of the text"),
    ([{"type": "text"}], "type 'text' without text"),
    ([{"name": "f"}], "with the fields name is no text"),
    ([4], "a part that is int"),
    ("[{'type': 'text', 'text': '4'}]", "printed as text"),
    ('[{"citations": null, "text": "4", "type": "text"}]', "printed as text"),
    ("ChatCompletionMessage(content='It is 4.', role='assistant', tool_calls=None)", "printed as text"),
    ("[CompletionOutput(index=0, text='It is 4.', token_ids=[4])]", "printed as text"),
    ("openai.types.ModelResponse(id='a', choices=[Choices(index=0)])", "printed as text"),
    ("content='It is 4.' additional_kwargs={} response_metadata={'model': 'm'}", "printed as text"),
    ("<openai.ChatCompletion object at 0x7f3a>", "printed as text"),
    ("[TextBlock(citations=None, text='4', type='text')]", "printed as text"),
]


@pytest.mark.parametrize(("value", "said"), SAID)
def test_what_is_said(value: Any, said: Spoken) -> None:
    assert spoken(value) == said
    assert said.tagged().endswith(said.text)
    assert said.tagged().startswith("<think>\n") == bool(said.thought)


@pytest.mark.parametrize(("value", "why"), REFUSED)
def test_what_is_no_text_says_why(value: Any, why: str) -> None:
    with pytest.raises(ChunkError, match=why):
        spoken(value)


@pytest.mark.parametrize("text", ["Point(x=1, y=2)", "Output(4)", "It prints Message(content='a')", "f(text='a')"])
def test_code_is_no_printed_object(text: str) -> None:
    assert spoken(text) == Spoken(text)


def test_the_turns_of_a_chat_are_no_chunks() -> None:
    assert is_chunked([TEXT])
    assert is_chunked(["4"])
    assert not any(map(is_chunked, ("4", [], [{"role": "user", "content": "4"}], [{"from": "gpt", "text": "4"}], [4])))
