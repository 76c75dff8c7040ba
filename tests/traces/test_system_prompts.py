"""A system prompt of one's own, which becomes part of the student's chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from dcod.config import StudentConfig
from dcod.errors import UserError
from dcod.traces import prompts, turns
from tests import families

ASKED = [{"role": "user", "content": "7?"}]
HOSTILE = "Say \"4\" \\ {{ 7 * 7 }} {% raw %} %}\n\tÄ 😀 'x'"


def put(folder: Path, name: str, text: str) -> Any:
    if not (folder / "tokenizer.json").is_file():
        families.tokenizer(name).save_pretrained(folder)
    template: Literal["model", "plain"] = "model" if families.FAMILIES[name].template else "plain"
    return prompts.of_student(folder, StudentConfig(chat_template=template, system_prompt=text))


def written(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    return turns.render(tokenizer, messages, generate=True)


@pytest.mark.parametrize("text", ["Be brief.", "", HOSTILE])
@pytest.mark.parametrize("name", families.FAMILIES)
def test_it_is_written_as_if_the_prompt_had_it(tmp_path: Path, name: str, text: str) -> None:
    plain = put(tmp_path, name, prompts.OF_TEMPLATE)
    system = {"role": "system", "content": text}
    try:
        wanted = written(plain, [system, *ASKED])
    except turns.TemplateError:
        wanted = ""
    if text.strip() not in wanted or not wanted:
        with pytest.raises(UserError, match="system_prompt: the chat template"):
            put(tmp_path, name, text)
        return
    own = put(tmp_path, name, text)
    assert written(own, ASKED) == wanted
    assert written(own, [system, *ASKED]) == wanted
    other = [{"role": "system", "content": "Another."}, *ASKED]
    assert written(own, other) == written(plain, other)
    assert turns.of(own).last == turns.of(plain).last


def test_a_saved_student_asks_as_it_was_taught(tmp_path: Path) -> None:
    own = put(tmp_path / "start", "chatml", HOSTILE)
    own.save_pretrained(tmp_path / "student")
    (tmp_path / "student").joinpath("config.json").write_text("{}")
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(tmp_path / "student")
    assert bare.apply_chat_template(ASKED, tokenize=False, add_generation_prompt=True) == written(own, ASKED)
    for text in (HOSTILE, prompts.OF_TEMPLATE):  # the next night starts from that student, or rolls it out
        again = put(tmp_path / "student", "chatml", text)
        assert again.chat_template == own.chat_template
        assert prompts.tokenizer_digest(again) == prompts.tokenizer_digest(own)
    assert HOSTILE not in written(put(tmp_path / "student", "chatml", "Be brief."), ASKED)


def test_templates_by_name_all_get_it(tmp_path: Path) -> None:
    fast = families.tokenizer("chatml")
    fast.chat_template = {"default": fast.chat_template, "tool_use": fast.chat_template + "tools"}
    fast.save_pretrained(tmp_path)
    own = put(tmp_path, "chatml", "Be brief.")
    assert set(own.chat_template) == {"default", "tool_use"}
    assert all("Be brief." in template for template in own.chat_template.values())
    assert "Be brief." in written(own, ASKED)


def test_another_system_prompt_is_another_context(tmp_path: Path) -> None:
    digests = {
        prompts.tokenizer_digest(put(tmp_path, "chatml", text)) for text in (prompts.OF_TEMPLATE, "", "Be brief.")
    }
    assert len(digests) == 3  # so log-probs that a teacher gave behind another one are not compared
