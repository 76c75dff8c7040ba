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
_TRAIL = re.compile(
    r",? (?:i think|i believe|i guess|i suppose|probably|maybe|perhaps|or so|approximately|roughly|exactly|"
    r"as (?:required|desired|requested|expected|stated|claimed|needed)|in total|altogether|overall|indeed)\Z",
    re.IGNORECASE,
)


def settled(text: str) -> str:
    """A statement without its hedges, asides and what it takes back; without any it stays as it is."""
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
