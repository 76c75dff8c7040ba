"""Metamorphic tests of extraction: what responses settle on, and what is no answer."""

from __future__ import annotations

from collections.abc import Iterator

from dcod.grading import extract as answers
from dcod.grading import thoughts
from dcod.grading.extract import extract

VALUES = ["4", "17", "-3", "2.5", "\\frac{3}{7}", "x+1", "12", "360", "\\sqrt{2}", "(1,2)"]
OTHERS = [*VALUES[1:], VALUES[0]]
HEADS = (
    "Question:", "Next question:", "USER:", "Q2)", "Question #2:", "2. Question:", "[Question]", "Example 2:", "Task:",
    "Prompt:", "问题：", "Pregunta:", "Frage:", "**Problem 2.**",
)  # fmt: skip
MARKS = (
    "<|im_end|>", "[|endofturn|]", "<seed:eos>", "<|assistant_end|>", "<|endofresponse|>", "<|im:end|>", "</longcat_s>",
    "[unused10]", "[UNUSED_TOKEN_145]", "<reserved_106>", "<extra_id_1>", "<SPECIAL_12>", "<|stop|>", "<|hy_eos|>",
    "<eoa>", "[INST]", "<start_of_turn>", "<|user|>", "[|user|]", "<｜User｜>", "<|begin_of_text|>",
)  # fmt: skip
TAGS = ("<think>", "[THINK]", "<thinking>", "<seed:think>", "<|begin_of_thought|>", "<reasoning>", "<|START_THINKING|>")


def settled() -> Iterator[tuple[str, str | None]]:
    """Responses with the answer that they settle on."""
    for value, other in zip(VALUES, OTHERS, strict=True):
        yield f"So \\boxed{{{value}}}.\n\n**Final Answer**\n1. It is what was asked for.\n2. It is unique.", value
        yield f"First \\boxed{{{other}}}.\n**Final answer for part 1:** ${value}$", f"${value}$"
        yield f"Final answer for part (b): ${value}$", f"${value}$"
        yield f"The answer is ${value}$ (not ${other}$).", f"${value}$"
        yield f"At first: the answer is ${other}$. Wait, the answer is actually ${value}$.", f"${value}$"
        yield f"The answer is not ${other}$, it is ${value}$.", f"${value}$"
        yield f"The operator \\boxed{{{value}}} stays.\n\n**Answer: D**", "D"
        yield f"The rule gives \\boxed{{{value}}}, so the correct option is (B).", "(B)"
        yield f"The answer is in the table. The answer is ${value}$.", f"${value}$"
        yield f"**Answer**\n\n\\[ {value} \\]\n", f"\\[ {value} \\]"
        yield f"It was \\boxed{{{value}}}, or again \\boxed{{{other}", value
        for form in ("The answer is {}.", "\\boxed{{{}}}", "Its answer: {}"):
            asked = f"Question 1: a?\n{form.format(other)}\nQuestion 2: b?\n{form.format(other)}\n"
            yield f"{asked}So in all the final answer is \\boxed{{{value}}}.", value
        yield f"2+2=4. The answer is {value}.\n\nQuestion: What is 3+3?\nThe answer is {other}.", value
        yield f"The answer is {value}. I hope this helps!", value
        yield f"**Answer: {value}.** That is all.", value
        yield f"The answer is ${value}$.\n\nThe answer is an even number.", f"${value}$"
        yield f"The answer is ${value}$.\n\nNote: if it were longer, the answer would be ${other}$.", f"${value}$"
        yield f"The answer is ${value}$.\n\n```python\nanswer = {other}\n```", f"${value}$"
        yield f'```json\n{{"steps": 2, "answer": "{value}"}}\n```', value
        yield f"The answer is ${other}$... no, ${value}$.", f"${value}$"
        yield f"The answer is ${other}$. Wait, that is wrong.\nThe answer is ${value}$.", f"${value}$"
        yield f"First: \\boxed{{{other}}}\n\nCorrection: the answer is ${value}$.", f"${value}$"
        yield f"It cannot be \\boxed{{{other}}}, so the answer is ${value}$.", f"${value}$"
        yield f"It is not hard to see that it is \\boxed{{{value}}}, which is not a prime.", value
        yield f"\\boxed{{x = \\boxed{{{value}}}}}", value
        yield f"Put it into \\boxed{{answer}}. The answer is ${value}$.", f"${value}$"
        for head in HEADS:
            yield f"2+2=4. The answer is {value}.\n\n{head} What is 3+3?\nThe answer is {other}.", value
        for mark in MARKS:
            yield f"The answer is {value}{mark}", value
            yield f"\\boxed{{{value}}}{mark}\nuser\nWhat is 3+3? \\boxed{{{other}}}", value
        yield f"\\boxed{{{value}}}\n\n### Problem 2: b?\n\\boxed{{{other}}}\n\n### Problem 3: c?\n\\boxed{{5}}", value


def unsettled() -> Iterator[tuple[str, str | None]]:
    """Responses without an answer."""
    ordinary = (
        "The answer is in the table on page {}.", "The answer is found by adding {}.",
        "My answer was off by ${}$.",
        "The answer is obtained from ${}$ by hand.", "To answer this we need ${}$.",
        "The answer is greater than ${}$.",
        "The answer depends on ${}$.", "An answer is given below: take ${}$",
        "The answers are all different from ${}$.",
        "The answer is the sum of ${}$ and 1.",
        "Let me check the answer: ${}$ fits.", "so we get $\\boxed{{{}",
        "The answer is $\\boxed{{{}", "The answer is clear once ${}$ is known.",
        "I don't think the answer is ${}$.", "One might think that the answer is ${}$.", "The wrong answer is ${}$.",
        "If the answer is ${}$, nothing fits.", "The answer would be ${}$ if it were even, but it is odd.",
        "It can't be that the answer is ${}$.", "The answer is unlikely to be ${}$.", "\\boxed{{{}}} is wrong.",
        "The answer cannot be \\boxed{{{}}}.", "Is it \\boxed{{{}}}? No, it is too small.",
        "A common wrong answer is \\boxed{{{}}}.",
        "\\boxed{{{}}}. Wait, that is wrong.", "The answer is ${}$. That is not right.",
    )  # fmt: skip
    for value in VALUES:
        yield from ((form.format(value), None) for form in ordinary)
        yield from ((f"{tag}perhaps \\boxed{{{value}}}, let me see", None) for tag in TAGS)
        yield from ((f"{tag}\nso the answer is \\boxed{{{value}}}.", None) for tag in TAGS)


def test_responses_say_what_they_settle_on_and_nothing_else() -> None:
    cases = [*settled(), *unsettled()]
    assert len(list(settled())) >= 150
    assert len(cases) >= 400
    assert [(text, extract(text), answer) for text, answer in cases if extract(text) != answer] == []


def test_an_unmarked_last_sentence_counts_where_it_is_asked_for() -> None:
    forms = (
        "Therefore, the number of hens is {}.", "So she has {} eggs left.", "3 + 4 = 7, hence there are {}.",
        "This leaves {} of them", "We conclude that ${}$ is what is left.", "In all, \\({}\\) remain.",
    )  # fmt: skip
    numbers = [str(n) for n in (*range(2, 36), "1,200", "2.5", "-7")]
    cases = [(form.format(number), number) for form in forms for number in numbers]
    assert len(cases) >= 200
    for text, number in cases:
        assert extract(text) is None
        ways = extract(text, last_number=True), extract(text, last_math=True)
        assert [(way or "").strip("$") for way in ways] == [number, number], text
    assert extract("Hence $x = \\frac{1}{2}$ holds.", last_math=True) == "\\frac{1}{2}"
    assert extract("Hence $x = 5$, for all 3.", last_math=True) == "3"


def test_a_bare_last_number_is_taken_with_what_it_is_a_part_of() -> None:
    cases = {
        "The result is 2^10.": "2^10", "So it is \\frac{1}{2}.": "\\frac{1}{2}", "The speed is 3e8 m/s": "3e8",
        "It sold 2.5 million copies.": "2.5 million", "It takes 3½ hours.": "3½", "It takes 3 1/2 hours.": "3 1/2",
        "It costs 1 200 euros.": "1 200", "It is 10:15.": "10:15", "It is √9.": "√9", "It covers 45 m^2.": "45",
        "The result is x^2.": None, "There are 7, in room B-12": "12", "It is (5).": "5", "3 of 200 are left": "200",
    }  # fmt: skip
    assert {text: extract(text, last_number=True) for text in cases} == cases


def test_every_tag_of_the_table_hides_what_stands_inside() -> None:
    for tag in TAGS:
        assert thoughts.kind(f"{tag}a") == "unclosed"
        closed = f"{tag}perhaps \\boxed{{3}}{thoughts.closing(tag)}"
        assert extract(f"{closed}\nSo it is two.") is None
        assert extract(f"{closed}\\boxed{{2}}") == "2"
        assert extract(f"The answer is 4.\n{tag}perhaps \\boxed{{3}}") == "4"


def test_a_run_on_is_told_by_what_follows_as_a_whole() -> None:
    own = "Question 1: a? The answer is 3.\nQuestion 2: b? The answer is 4.\nSo 7. The final answer is \\boxed{7}."
    invented = "The answer is 4.\n\nQuestion: b?\nThe answer is 6."
    assert answers.run_on(own) == len(own)
    assert invented[: answers.run_on(invented)] == "The answer is 4.\n\n"
