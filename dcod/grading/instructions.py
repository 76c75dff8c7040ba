r"""IFEval's 25 kinds of verifiable instructions: is each one followed, strictly and loosely (Zhou et al. 2023).

Written from the published definitions (arXiv 2311.07911, table 4 and section 2), one function a kind. Packages that
carry the original checker exist; they want NLTK's sentence model downloaded at run time and draw random arguments
where a row leaves one out, so the same answer may be graded in two ways.

Differences from the original, all of them:
  * sentences are split by the rules of :func:`sentences`, not by NLTK's trained model;
  * words in capitals are those between spaces and punctuation, not NLTK's tokens;
  * ``letter_frequency`` counts any character; the original draws a random letter for "#" and "!";
  * keywords are taken literally, not as regular expressions;
  * language detection is seeded.

Every check takes linear time.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Arguments = Mapping[str, Any]
_FIRST_USE = threading.Lock()


def followed(kinds: Sequence[str], arguments: Sequence[Arguments], response: str, *, loose: bool = False) -> list[bool]:
    """Whether a response follows each of its instructions.

    Args:
        kinds: such as ``punctuation:no_comma``, keys of :data:`CHECKS`.
        arguments: of each, by the names of the data set; None means absent.
        response: what the model wrote.
        loose: it is enough that one of eight variants does: without the first line, the last, or both, each also
            without asterisks.

    Raises:
        ValueError: a kind is unknown.
    """
    unknown = sorted(set(kinds) - CHECKS.keys())
    if unknown:
        raise ValueError(f"unknown instruction kind {', '.join(unknown)}; known: {', '.join(CHECKS)}")
    texts = [text for text in (variants(response) if loose else [response]) if text.strip()]
    return [any(CHECKS[kind](text, given) for text in texts) for kind, given in zip(kinds, arguments, strict=True)]


def variants(response: str) -> list[str]:
    """The response and its seven loosened forms."""
    lines = response.split("\n")
    cut = [response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return [*cut, *(text.replace("*", "") for text in cut)]


_ENDS = re.compile(r"(?<![.!?])[.!?]++[\"'”’)\]*]*+(?=\s|\Z)")
_SHORT = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|sr|jr|st|vs|etc|inc|ltd|co|corp|no|vol|fig|al|approx|dept|est|e\.g|i\.e|a\.m|p\.m|"
    r"u\.s|ph\.d)|(?:^|[\s(\"'])[A-Za-z]|(?:^|\n)\s{0,12}\d{1,3})\Z",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """Sentences: they end with ``.``, ``!`` or ``?`` before white space, unless a full stop ends an abbreviation, an
    initial or the number of a list item, or a small letter follows it. A line break alone ends none.
    """
    whole, begin = [], 0
    for match in _ENDS.finditer(text):
        after = text[match.end() : match.end() + 20].lstrip()
        if match.group().rstrip("\"'”’)]*") in (".", "...") and (
            _SHORT.search(text[max(begin, match.start() - 12) : match.start()]) or after[:1].islower()
        ):
            continue
        whole.append(text[begin : match.end()].strip())
        begin = match.end()
    rest = text[begin:].strip()
    return [*whole, rest] if rest else whole


def language(text: str) -> str | None:
    """The code of the likeliest language, such as ``en``; None where there is nothing to tell it by."""
    with _FIRST_USE:  # its profiles are read once, without a lock of its own
        from langdetect import DetectorFactory, LangDetectException, detect

        DetectorFactory.seed = 0
        try:
            return str(detect(text))
        except LangDetectException:
            return None


def _related(count: int, relation: str, number: int) -> bool:
    if relation not in ("less than", "at least"):
        raise ValueError(f"relation {relation!r}: expected 'less than' or 'at least'")
    return count < number if relation == "less than" else count >= number


def _keywords(text: str, given: Arguments) -> bool:
    return all(word.casefold() in text.casefold() for word in given["keywords"])


def _frequency(text: str, given: Arguments) -> bool:
    count = text.casefold().count(given["keyword"].strip().casefold())
    return _related(count, given["relation"], given["frequency"])


def _forbidden(text: str, given: Arguments) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in given["forbidden_words"])


def _letters(text: str, given: Arguments) -> bool:
    return _related(text.lower().count(given["letter"].lower()), given["let_relation"], given["let_frequency"])


def _language(text: str, given: Arguments) -> bool:
    return language(text) in (given["language"], None)


def _sentence_count(text: str, given: Arguments) -> bool:
    return _related(len(sentences(text)), given["relation"], given["num_sentences"])


def _paragraphs(text: str, given: Arguments) -> bool:
    """Paragraphs stand between ``***``; an empty one in the middle is an error."""
    parts = [part.strip() for part in text.split("***")]
    inner = parts[bool(not parts[0]) : len(parts) - bool(not parts[-1])]
    return all(inner) and len(inner) == given["num_paragraphs"]


def _words(text: str, given: Arguments) -> bool:
    return _related(len(re.findall(r"\w+", text)), given["relation"], given["num_words"])


def _first_word(text: str, given: Arguments) -> bool:
    """So many paragraphs between blank lines, and one of them begins with a word."""
    parts = text.split("\n\n")
    nth = given["nth_paragraph"]
    count = sum(bool(part.strip()) for part in parts)
    if nth > count or count != given["num_paragraphs"] or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word)[0].lower() == given["first_word"].lower()


def _placeholders(text: str, given: Arguments) -> bool:
    count = 0
    for line in text.split("\n"):
        end = line.find("]", line.find("[")) if "[" in line else -1
        while end >= 0:
            count += 1
            begin = line.find("[", end + 1)
            end = line.find("]", begin) if begin >= 0 else -1
    return count >= given["num_placeholders"]


def _postscript(text: str, given: Arguments) -> bool:
    marker = given["postscript_marker"].strip()
    pattern = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(pattern, text.lower()) is not None


def _bullets(text: str, given: Arguments) -> bool:
    lines = [line.strip() for line in text.split("\n")]
    stars = sum(line.startswith("*") and len(line) > 1 and line[1] != "*" for line in lines)
    return stars + sum(line.startswith("-") for line in lines) == given["num_bullets"]


def _constrained(text: str, _: Arguments) -> bool:
    return any(f"My answer is {word}." in text for word in ("yes", "no", "maybe"))


def _highlights(text: str, given: Arguments) -> bool:
    highlighted = re.findall(r"\*[^\n*]*\*", text) + re.findall(r"\*\*[^\n*]*\*\*", text)
    return sum(bool(part.strip("*").strip()) for part in highlighted) >= given["num_highlights"]


def _sections(text: str, given: Arguments) -> bool:
    mark = re.escape(given["section_spliter"].strip())
    return len(re.findall(rf"{mark}\s?\d+", text)) >= given["num_sections"]


def _json(text: str, _: Arguments) -> bool:
    inner = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        inner = inner.removeprefix(fence)
    try:
        json.loads(inner.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _: Arguments) -> bool:
    for line in text.split("\n"):
        begin, end = line.find("<<"), line.rfind(">>")
        if 0 <= begin < end and line[begin:end].strip("<> \t"):
            return True
    return False


def _two_responses(text: str, _: Arguments) -> bool:
    parts = [part.strip() for part in text.split("******")]
    inner = parts[bool(not parts[0]) : len(parts) - bool(not parts[-1])]
    return all(inner) and len(inner) == 2 and inner[0] != inner[1]


def _repeats(text: str, given: Arguments) -> bool:
    return text.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _ends(text: str, given: Arguments) -> bool:
    return text.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _capital_words(text: str, given: Arguments) -> bool:
    parts = re.split(r"[\s,;:!?()\[\]{}\"“”]+", re.sub(r"(?i)(n't|'(?:s|m|ll|re|ve|d))\b", r" \1", text))
    count = sum(part.isupper() for part in parts)
    return _related(count, given["capital_relation"], given["capital_frequency"])


def _capitals(text: str, _: Arguments) -> bool:
    return text.isupper() and language(text) in ("en", None)


def _lower_case(text: str, _: Arguments) -> bool:
    return text.islower() and language(text) in ("en", None)


def _no_comma(text: str, _: Arguments) -> bool:
    return "," not in text


def _quoted(text: str, _: Arguments) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: dict[str, Callable[[str, Arguments], bool]] = {
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capitals,
    "change_case:english_lowercase": _lower_case,
    "combination:repeat_prompt": _repeats,
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": _constrained,
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": _keywords,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _frequency,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": _sentence_count,
    "length_constraints:number_words": _words,
    "punctuation:no_comma": _no_comma,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
}
