"""Templates that write out typed parts and leave plain text out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcod.errors import UserError
from dcod.traces import prompts, turns
from tests import families

LOOP = "{% for p in m.content %}{% if p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}"
PARTS = families.CHATML.replace("{{ m.content }}", LOOP)
USERS = families.CHATML.replace(
    "{{ m.content }}", f"{{% if m.role == 'user' %}}{LOOP}{{% else %}}{{{{ m.content }}}}{{% endif %}}"
)
CHAT = [("system", "Be brief."), ("user", "2+2?"), ("assistant", "4"), ("user", "3+3?")]


def loaded(folder: Path, template: str, system_prompt: str = prompts.OF_TEMPLATE) -> Any:
    fast = families.tokenizer("chatml")
    fast.chat_template = template
    fast.save_pretrained(folder)
    return prompts.load_tokenizer(folder, "model", system_prompt)


def asked(fast: Any, chat: list[tuple[str, str]]) -> str:
    return fast.decode(prompts.encode_prompt(fast, [{"role": role, "content": text} for role, text in chat]))


@pytest.mark.parametrize(
    "template",
    [
        PARTS,
        PARTS.replace("for p in m.content", "for p in m.content | selectattr('type', 'equalto', 'text')"),
        PARTS.replace("{% for p", "{% if m.content is string %}{{ raise_exception('parts') }}{% endif %}{% for p"),
        USERS,
    ],
)
def test_what_is_said_stands_in_the_prompt_whatever_form_the_template_takes(tmp_path: Path, template: str) -> None:
    usual = loaded(tmp_path / "usual", families.CHATML)
    other = loaded(tmp_path / "other", template)
    assert asked(other, CHAT) == asked(usual, CHAT)
    assert turns.of(other).table() == turns.of(usual).table()
    assert prompts.encode_completion(other, "So 4") == prompts.encode_completion(usual, "So 4")


def test_text_stays_text_where_both_forms_are_written(tmp_path: Path) -> None:
    both = families.CHATML.replace(
        "{{ m.content }}", f"{{% if m.content is string %}}{{{{ m.content }}}}{{% else %}}PARTS{LOOP}{{% endif %}}"
    )
    assert "PARTS" not in asked(loaded(tmp_path, both), CHAT)


def test_a_system_prompt_of_the_configuration_takes_the_same_form(tmp_path: Path) -> None:
    assert "system\nCount in base 7.<|im_end|>" in asked(loaded(tmp_path, PARTS, "Count in base 7."), CHAT[1:])


def test_a_template_without_what_the_user_says_is_one_line(tmp_path: Path) -> None:
    silent = families.CHATML.replace("{{ m.content }}", "{{ m.text }}")
    with pytest.raises(
        UserError, match=r"its chat template leaves out what the user says.*student\.chat_template=plain"
    ):
        loaded(tmp_path, silent)


def test_a_template_without_the_assistants_text_teaches_no_part_of_the_question(tmp_path: Path) -> None:
    users = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    fast = loaded(tmp_path, users)
    assert fast.decode(prompts.encode_completion(fast, "So 4")) == "So 4<|im_end|>"
