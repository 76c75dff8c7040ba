"""Fails on skipped tests whose reason is not in the list of allowed ones, and on reports without tests.

    python .ci/check_skips.py ALLOWED.txt REPORT.xml…

Each line of ALLOWED.txt is a regular expression that must match the whole reason; `#` begins a comment.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def complaints(allowed: list[str], report: Path) -> tuple[list[str], str]:
    """What is wrong with one report, and a line that says what it held."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))  # noqa: S314 (written by our own pytest)
    skipped = [(case, case.find("skipped")) for case in cases if case.find("skipped") is not None]
    wrong = [
        f"{report.name}: {case.get('classname')}.{case.get('name')} was skipped: {note.get('message')}"
        for case, note in skipped
        if note is not None and not any(re.fullmatch(pattern, note.get("message", "")) for pattern in allowed)
    ]
    if len(cases) == len(skipped):
        wrong.append(f"{report.name}: no test ran")
    return wrong, f"{report.name}: {len(cases) - len(skipped)} tests ran, {len(skipped)} were skipped"


def main(arguments: list[str]) -> int:
    """Prints a line a report and every complaint; 1 if there is one."""
    if len(arguments) < 2:
        print("usage: check_skips.py ALLOWED.txt REPORT.xml…", file=sys.stderr)
        return 2
    lines = Path(arguments[0]).read_text(encoding="utf-8").splitlines()
    allowed = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    found = False
    for report in arguments[1:]:
        wrong, summary = complaints(allowed, Path(report))
        print(summary)
        for line in wrong:
            found = True
            print(line, file=sys.stderr)
    return int(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
