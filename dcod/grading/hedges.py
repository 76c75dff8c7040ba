"""What a hedged or corrected statement settles on: ``12 (not 13)`` says 12, ``not 5, it is 6`` says 6."""

from __future__ import annotations

import re

_LEAD = re.compile(
    r"(?:that|therefore|thus|then|so|simply|just|equal to|given by|as follows|approximately|approx\.?|roughly|about|"
    r"around|exactly|indeed|actually|really|in fact|now|clearly|obviously|definitely|certainly|likely|probably|perhaps|"
    r"maybe|possibly|surely|either|both|again|still|i think|i believe|i guess|a total of|= ?)(?![A-Za-z])[,: ]{0,3}",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r" ?\((?:not|instead|rather|approx[a-z]*|about|since|because|as|e\.g|assuming|which|rounded|where|after|from|by|"
    r"the|this|that|note|see|option|choice|if|when|exactly|in)\b(?:[^()]|\([^()]{0,80}\)){0,200}\)",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(r" ?\((?:or|or equivalently|equivalently|i\.e\.,?|=) ([^()]{1,100})\)", re.IGNORECASE)
_CORRECTED = re.compile(
    r"(?:\bnot|n't) (?:[^,;.]|[.,](?=\d)){1,80}?[,;]? ?"
    r"\b(?:but rather|but|it is|it's|it was|they are|they're|rather|instead it is)(?: actually| really)? (?=\S)",
    re.IGNORECASE,
)
_INSTEAD = re.compile(r",? (?:and |but )?(?:not|rather than|instead of|as opposed to) (?=\S)", re.IGNORECASE)
_AGAIN = (
    r"(?:no(?=[,:.!—]| (?:wait|it|that|actually|sorry|I mean))|wait|sorry|oops|scratch that|I mean|or rather|make that)"
)
_REVISED = re.compile(
    rf"(?:(?<!\.)\.{{2,}}|[…,;?—–]| -|(?<=\S)(?= )) ?{_AGAIN}\b[,:.!— ]{{0,8}}"
    rf"(?:(?:{_AGAIN}|actually|it is|it's|that is|that's|rather|it should be)\b[,:.! ]{{0,8}}){{0,4}}(?=\S)",
    re.IGNORECASE,
)
_REGRET = re.compile(
    r"(?:[^.!?\n]|\.(?=\d)){0,40}[.!?$]{0,3}\s{1,3}(?:(?:Wait|Hmm|No|Oh|Oops|Actually)\W{1,3})?"
    r"(?:that|this|it)(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct)|a mistake)\b",
    re.IGNORECASE,
)
_TRAIL = re.compile(
    r",? (?:i think|i believe|i guess|i suppose|probably|maybe|perhaps|or so|approximately|roughly|exactly|"
    r"as (?:required|desired|requested|expected|stated|claimed|needed)|in total|altogether|overall|indeed)\Z",
    re.IGNORECASE,
)


def regretted(text: str, place: int) -> bool:
    """Whether what stands at a place, or ends there, is called wrong by the sentence behind it."""
    return bool(_REGRET.match(text, place))


def settled(text: str) -> str:
    """A statement without its hedges, asides and what it takes back; without any it stays as it is."""
    revised = list(_REVISED.finditer(text[:2000]))
    text = text[revised[-1].end() :] if revised and revised[-1].start() else text
    corrected = list(_CORRECTED.finditer(text[:2000]))
    text = text[corrected[-1].end() :] if corrected else text
    text = _ASIDE.sub("", _ALTERNATIVE.sub(r" or \1", text))
    instead = _INSTEAD.search(text, 1)
    text = text[: instead.start()] if instead else text
    for _ in range(4):
        lead = _LEAD.match(text)
        text = text[lead.end() :] if lead and text[lead.end() :].strip() else text
        trail = _TRAIL.search(text, max(0, len(text) - 60))
        text = text[: trail.start()] if trail else text
    return text.strip()
