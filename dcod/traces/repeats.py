"""A completion that begins with its own prompt, and a prompt that holds its own completion.

Pipelines return the full text, and training files hold it in a column of their own. Where it is certain what was asked
and what was answered the two are told apart, else the trace is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace

from dcod.grading import thoughts
from dcod.grading.extract import extract
from dcod.traces import templates
from dcod.traces.columns import flat
from dcod.traces.refusals import RowError
from dcod.traces.schema import Message, Trace

_FEWEST = 20  # characters of a prompt that nobody repeats by chance
_LONG = 200  # characters of a text that is an answer, whatever it says
_OPENED = re.compile(r"\A(?:<\|im_start\|>assistant|<\|start_header_id\|>assistant<\|end_header_id\|>|assistant)\s*\n")


def told_apart(trace: Trace) -> Trace:
    """A trace whose prompt is what was asked, and whose completion what was answered.

    Raises:
        RowError: ``template_marks``, ``answer_in_prompt``.
    """
    prompt, completion = _unprompted(trace.prompt, trace.completion)
    prompt = _unanswered(prompt, completion)
    if prompt == trace.prompt and completion == trace.completion:
        return trace
    return replace(trace, prompt=prompt, completion=completion, prompt_id="", trace_id="")


def _unprompted(prompt: list[Message], completion: str) -> tuple[list[Message], str]:
    """A prompt as it was rendered, if the completion begins with it, and the completion without it."""
    try:
        whole = templates.transcript(completion.lstrip(), prompt[-1]["content"])
    except templates.RoleError as error:
        raise RowError("template_marks", f"the completion begins with a rendered prompt: {error}") from None
    if whole:
        count = next(
            (place for place, turn in enumerate(whole) if turn["role"] == "user" and _is(turn, prompt[-1])), -1
        )
        if count < 0 or [turn["role"] for turn in whole[count + 1 : count + 2]] != ["assistant"]:
            raise RowError("template_marks", f"the completion is a chat as a template wrote it: {completion[:40]!r}")
        rendered = whole[: count + 1]
        kept = prompt if prompt[0]["role"] == "system" and rendered[0]["role"] != "system" else rendered
        return kept, whole[count + 1]["content"]
    asked, said = prompt[-1]["content"].strip(), completion.lstrip()
    if len(asked) >= _FEWEST and said.startswith(asked):
        rest = said[len(asked) :]
        goes_on = rest[:1] in " \t" and rest.lstrip()[:1].islower()  # a sentence that only begins like the prompt
        if rest.strip() and (rest[0].isspace() or rest[0].isalnum() or rest[0] in "<[") and not goes_on:
            return prompt, rest.lstrip()
    return prompt, _OPENED.sub("", completion)


def _is(turn: Message, asked: Message) -> bool:
    """Whether a rendered turn says what is asked, perhaps with an instruction beside it."""
    return flat(asked["content"]) in flat(turn["content"])


def _unanswered(prompt: list[Message], completion: str) -> list[Message]:
    """A prompt without the answer at its end, where a template stands between the two."""
    asked = prompt[-1]["content"]
    for said in dict.fromkeys((completion.strip(), thoughts.without(completion).strip())):
        if len(said) < _FEWEST or said not in asked:
            continue
        front, _, behind = asked.rpartition(said)
        if not front.strip():  # a model that only repeats what is asked
            continue
        turns = None if templates.without_end(behind).strip() else templates.apart(front)
        if turns and turns[-1]["role"] == "user":
            return [*prompt[:-1], *turns]
        if thoughts.marks(said) or len(said) >= _LONG or extract(said) is not None:
            raise RowError("answer_in_prompt", f"the prompt holds the completion itself: {said[:60]!r}")
    return prompt
