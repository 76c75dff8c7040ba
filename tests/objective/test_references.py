"""What code says of the method can be looked up: docs/method.md, by the numbers of its headings."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADINGS = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\. ", re.MULTILINE)
REFERENCE = re.compile(r"docs/method\.md,\s+sections?\s+([\d.]*\d(?:(?:,| and)\s+[\d.]*\d)*)")


def references(text: str) -> list[str]:
    return [number for match in REFERENCE.finditer(text) for number in re.split(r"(?:,| and)\s+", match[1])]


def test_every_reference_names_a_heading() -> None:
    headings = HEADINGS.findall((ROOT / "docs" / "method.md").read_text(encoding="utf-8"))
    assert len(headings) == len(set(headings)) >= 10
    files = [path for top in ("dcod", "tests", "bench") for path in (ROOT / top).rglob("*.py")]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path != Path(__file__)}
    named = [(path.relative_to(ROOT), number) for path, text in texts.items() for number in references(text)]
    assert len(named) >= 15
    assert [(path, number) for path, number in named if number not in headings] == []
    dangling = [path for path, text in texts.items() if re.search(r"\bMETHOD(?: sections?)? \d", text)]
    assert dangling == []  # docs/method.md, section N


def test_references_are_read() -> None:
    assert references("as in docs/method.md, section 1.3.") == ["1.3"]
    assert references("(docs/method.md, sections 2, 4 and 7)") == ["2", "4", "7"]
    assert references("docs/method.md, section\n    12)") == ["12"]
