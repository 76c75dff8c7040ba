"""Fails unless the checkout is a release: `vVERSION` is the one version tag at HEAD, and nothing was changed since.

    python .ci/check_release.py [DIST]

VERSION stands in dcod/__init__.py. With DIST, also unless that folder has sdist and wheel of this version.
"""

import re
import subprocess
import sys
from pathlib import Path


def version() -> str:
    """What dcod/__init__.py says; read, since what is installed may be another checkout's."""
    (found,) = re.findall(r'^__version__ = "(.+)"$', Path("dcod/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    return str(found)


def complaint(says: str) -> str:
    """Why this is no release, with the way out; "" where it is one."""
    asked = [["git", "tag", "--points-at", "HEAD"], ["git", "status", "--porcelain"]]
    tags, changes = (subprocess.run(one, capture_output=True, text=True, check=False) for one in asked)
    if tags.returncode or changes.returncode:
        return f"a release is made in a git checkout, at a tag: {(tags.stderr or changes.stderr).strip()}"
    found = [tag for tag in tags.stdout.split() if re.match(r"v\d", tag)]
    if found != [f"v{says}"]:
        there = f"the tag is {', '.join(found)}" if found else "there is no tag at HEAD"
        way_out = "make them one" if found else f"`git tag v{says}`"
        return f"{there}, dcod/__init__.py says {says}: {way_out}"
    if changes.stdout:
        return f"changed since the tag v{says}: {changes.stdout.splitlines()[0].strip()}; commit it and move the tag"
    return ""


def lacking(says: str, folder: Path) -> str:
    """Which files of this version a folder lacks, or has besides; "" where all is as it should be."""
    wanted = {f"dcod-{says}.tar.gz", f"dcod-{says}-py3-none-any.whl"}
    there = {file.name for file in folder.iterdir() if file.suffix in (".gz", ".whl")}
    told = f"{folder} has {', '.join(sorted(there)) or 'nothing'}, a release has {', '.join(sorted(wanted))}"
    return "" if there == wanted else told


def main(arguments: list[str]) -> int:
    """Says what is wrong, and ends with 1 if something is."""
    says = version()
    wrong = complaint(says) or (lacking(says, Path(arguments[0])) if arguments else "")
    print(wrong or f"the release is {says}", file=sys.stderr if wrong else sys.stdout)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
