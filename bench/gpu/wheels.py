"""Whether this Python can install every wheel of a folder; run before pip, which would name none or the first alone."""

from __future__ import annotations

import sys
from pathlib import Path


def unfit(folder: Path) -> list[str]:
    """Names of the wheels that do not fit this Python and machine."""
    from pip._vendor.packaging.tags import sys_tags  # pip is there, `packaging` need not be
    from pip._vendor.packaging.utils import parse_wheel_filename

    known = set(sys_tags())
    return [path.name for path in sorted(folder.glob("*.whl")) if not parse_wheel_filename(path.name)[3] & known]


if __name__ == "__main__":
    wrong = unfit(Path(sys.argv[1]))
    if wrong:
        version = "{}.{}".format(*sys.version_info[:2])
        sys.exit(
            print(
                f"gpu-pack: not for this Python {version}: {', '.join(wrong)}; make it anew with `make gpu-pack "
                f"GPU_PYTHON={version}`",
                file=sys.stderr,
            )
            or 2
        )
