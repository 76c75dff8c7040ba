"""From messages and completions to the student's tokens: the one place where a prompt is built.

Training, scoring and evaluation all come through here, so a student is never trained on one prompt and
measured on another. Completions end as the chat template ends a turn, which is trained like the rest.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dcod.errors import UserError, one_line
from dcod.traces import contents, said, turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from dcod.config import StudentConfig
    from dcod.traces.schema import Message

OF_TEMPLATE = "template"  # in place of a system prompt: what the chat template writes by itself
_OPENS = "{% if not messages or messages[0].role != 'system' %}{% set messages = "
_CLOSES = " + (messages | list) %}{% endif %}\n"
_BEFORE = re.compile(rf"\A{re.escape(_OPENS)}\[.*?\]{re.escape(_CLOSES)}")

PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ {'system': '', 'user': 'Question: ', 'assistant': 'Answer: '}[m.role] }}"
    "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}Answer:{% endif %}"
)


def of_student(folder: Path, student: StudentConfig) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that is asked as the student is: the start, the champion, or the student itself."""
    return load_tokenizer(folder, student.chat_template, student.system_prompt)


def load_tokenizer(
    folder: Path, template: Literal["model", "plain"] = "model", system_prompt: str = OF_TEMPLATE
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, with a chat template.

    Args:
        folder: of the model.
        template: the model's own, or ours for one that has none.
        system_prompt: what the template is to write for a prompt that has none; ``template``: what it writes by itself.

    Raises:
        UserError: the folder has no tokenizer, no end token, or no chat template of its own, or that takes no system
            prompt.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(
            f"student {folder}: no tokenizer in the folder (tokenizer.json); save it beside the model with "
            "tokenizer.save_pretrained(folder)"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of the Rust library, too; code of its own (auto_map) is not run
        raise UserError(f"student {folder}: its tokenizer cannot be loaded ({one_line(error)[:200]})") from error
    if template == "plain":
        tokenizer.chat_template = ("{{ bos_token }}" if _begins(tokenizer) else "") + PLAIN_TEMPLATE
    elif not tokenizer.chat_template:
        raise UserError(f"student {folder}: its tokenizer has no chat template; set student.chat_template=plain")
    if system_prompt != OF_TEMPLATE:
        _put_before(tokenizer, system_prompt, folder)
    turns.learn(tokenizer, folder)
    return tokenizer


def _put_before(tokenizer: PreTrainedTokenizerBase, system_prompt: str, folder: Path) -> None:
    """Makes a system prompt a part of the chat template, so that whoever serves the student asks as it was taught.

    Raises:
        UserError: the template refuses it, or leaves it out.
    """
    asked = [{"role": "user", "content": "?"}]
    tokenizer.chat_template = bare = _bare(tokenizer)
    own = turns.render(tokenizer, asked, generate=True)
    text = json.dumps(contents.in_front(tokenizer, system_prompt), ensure_ascii=False)
    before = f"{_OPENS}[{{'role': 'system', 'content': {text}}}]{_CLOSES}"
    whole = {name: before + one for name, one in bare.items()} if isinstance(bare, dict) else before + bare
    tokenizer.chat_template = whole
    try:
        left_out = turns.render(tokenizer, asked, generate=True) == own and system_prompt.strip() not in own
        why = "leaves it out" if left_out else ""
    except turns.TemplateError as error:
        why = f"takes none ({error.of_template})"
    if why:
        raise UserError(
            f"system_prompt: the chat template of {folder} {why}; leave it unset, and put it into the prompts"
        )


def _bare(tokenizer: PreTrainedTokenizerBase) -> str | dict[str, str]:
    """The chat template, or templates by name, without the system prompt that was put before."""
    whole: str | dict[str, str] = tokenizer.chat_template or ""
    if isinstance(whole, dict):
        return {name: _BEFORE.sub("", one) for name, one in whole.items()}
    return _BEFORE.sub("", whole)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: list[Message]) -> list[int]:
    """Token ids of a prompt through the chat template, ready for the model to answer.

    Raises:
        TemplateError: the template refuses the roles, or leaves a turn out.
        ControlTokenError: a text holds a control token of the student.
    """
    text = turns.render(tokenizer, prompt, generate=True).removesuffix(turns.of(tokenizer).blank)
    ids = turns.tokenized(tokenizer, text)
    said.check_turns(tokenizer, prompt, ids)
    return ids


def encode_completion(tokenizer: PreTrainedTokenizerBase, completion: str) -> list[int]:
    """Token ids of a completion as it stands behind its prompt, the end of the turn included."""
    ends = turns.of(tokenizer)
    text = ends.written(completion) + ends.end
    if ends.anchor:
        begin, whole = turns.tokenized(tokenizer, ends.anchor), turns.tokenized(tokenizer, ends.anchor + text)
        if whole[: len(begin)] == begin:
            return [*whole[len(begin) :], ends.last]
    return [*turns.tokenized(tokenizer, text), ends.last]


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identity of vocabulary and chat template: log-probs are only comparable where it is the same."""
    vocabulary = "\x1f".join(f"{token}\x1e{index}" for token, index in sorted(tokenizer.get_vocab().items()))
    return _digest(f"{vocabulary}\x1d{tokenizer.eos_token}\x1d{_renders(tokenizer)}")


def digest_of_own_prompts(tokenizer: PreTrainedTokenizerBase) -> str:
    """As :func:`tokenizer_digest`, without the system prompt that is put before prompts that have none.

    A prompt with one of its own has the same tokens either way, and so have the log-probs behind it.
    """
    whole = tokenizer.chat_template
    tokenizer.chat_template = _bare(tokenizer)
    try:
        return tokenizer_digest(tokenizer)
    finally:
        tokenizer.chat_template = whole


def template_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Identity of the chat template alone, and of what it renders: models of other vocabularies may share it."""
    return _digest(_renders(tokenizer))


def _renders(tokenizer: PreTrainedTokenizerBase) -> str:
    """A template's source, and what it makes of a few conversations: what it writes of itself, on the fixed day."""
    system, user, answer = ({"role": role, "content": f"{role} 7"} for role in ("system", "user", "assistant"))
    rendered = [str(tokenizer.chat_template)]
    for messages in ([user], [system, user], [user, answer], [user, answer, user]):
        try:
            rendered.append(turns.render(tokenizer, messages, generate=messages[-1] is user))
        except turns.TemplateError as error:
            rendered.append(str(error))
    return "\x1d".join(rendered)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _begins(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer puts its beginning token in front of texts."""
    begin = tokenizer.bos_token_id
    return begin is not None and list(tokenizer("a")["input_ids"])[:1] == [begin] != turns.tokenized(tokenizer, "a")[:1]


INSTRUCTIONS = {
    "number": "Show your steps and end with '#### <number>'.",
    "boxed": "Show your steps and put the final answer in \\boxed{}.",
    "as_is": "",
}


def prompt_for(kind: str, problem: str) -> list[Message]:
    """The prompt of a problem, the same in training and in evaluation.

    Args:
        kind: how the answer is asked for, a key of :data:`INSTRUCTIONS`.
        problem: the problem's text.
    """
    return [{"role": "user", "content": f"{problem.strip()}\n{INSTRUCTIONS[kind]}".strip()}]
