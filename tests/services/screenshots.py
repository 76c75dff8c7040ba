"""Screenshots of pages, and whether two of them show the same: what a person would see, not how a machine smooths it.

Every page is drawn in one pair of fonts, DejaVu as matplotlib ships it, without hinting, at half its size: so a
reference is small, and another machine's picture of an unchanged page differs from it by shades only.
"""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SCALE = 0.5  # pixels of a picture to one of CSS
SHADE = 48  # of 255: a smaller difference in a channel is smoothing
TILE = 16  # pixels of a picture along the side of a tile
SHARE = 0.1  # of a tile's pixels; beyond it something was drawn otherwise
FLAGS = ["--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb", "--hide-scrollbars"]
# Nothing of it is in the pages themselves, whose policy lets no font in: the context has to bypass it.
FONTS = """@font-face { font-family: Text; src: url(DejaVuSans.ttf); }
@font-face { font-family: Text; font-weight: bold; src: url(DejaVuSans-Bold.ttf); }
@font-face { font-family: Mono; src: url(DejaVuSansMono.ttf); }
* { font-family: Text !important; }
pre, pre *, code, kbd, #tokens, #tokens *, #tip b { font-family: Mono !important; }"""

LOADED = """Promise.all(['16px Text', 'bold 16px Text', '16px Mono'].map((font) => document.fonts.load(font)))
  .then((loaded) => loaded.every((faces) => faces.length === 1))"""


def fonts() -> str:
    """The style that draws every text in DejaVu, with the fonts in it."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return re.sub(
        r"\((.*\.ttf)\)",
        lambda named: f"(data:font/ttf;base64,{base64.b64encode((folder / named[1]).read_bytes()).decode()})",
        FONTS,
    )


def taken(
    browser: Any, file: Path, *, width: int, scheme: str = "light", media: str = "screen", style: str = ""
) -> Any:
    """The whole page as a picture, with more `style` where a test plants something."""
    context = browser.new_context(
        bypass_csp=True,
        color_scheme=scheme,
        device_scale_factor=SCALE,
        reduced_motion="reduce",
        viewport={"width": width, "height": 860},
    )
    page = context.new_page()
    page.emulate_media(media=media)
    page.goto(file.as_uri())
    page.add_style_tag(content=fonts() + style)
    assert page.evaluate(LOADED), "the fonts did not load"
    data = page.screenshot(full_page=True, animations="disabled", caret="hide")
    context.close()
    return Image.open(io.BytesIO(data)).convert("RGB")


def keep(picture: Any, file: Path) -> None:
    """Writes a picture in the 256 colours that suit it, which makes it a third as large."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.quantize(256, dither=Image.Dither.NONE).save(file, optimize=True)


def differences(picture: Any, reference: Any) -> list[str]:
    """Where two pictures show something else, as boxes of CSS pixels; or that their sizes differ.

    A pixel differs where no pixel next to it in the other picture has its colour: an edge may fall on either side.
    """
    if picture.size != reference.size:
        sizes = [" x ".join(f"{side / SCALE:g}" for side in one.size) for one in (picture, reference)]
        return [f"{sizes[0]}, and {sizes[1]} before"]
    one, other = (np.asarray(each.convert("RGB")).astype(np.int16) for each in (picture, reference))
    differs = _strange(one, other) | _strange(other, one)
    found = []
    for top in range(0, differs.shape[0], TILE):
        for left in range(0, differs.shape[1], TILE):
            share = float(differs[top : top + TILE, left : left + TILE].mean())
            if share > SHARE:
                corner = [round(edge / SCALE) for edge in (left, top, TILE, TILE)]
                found.append("x {} y {} ({} x {}): ".format(*corner) + f"{share:.0%} of it")
    return found


def _strange(one: Any, other: Any) -> Any:
    """[height, width]: which pixels of one are like none around them in the other."""
    height, width = one.shape[:2]
    padded = np.pad(other, ((1, 1), (1, 1), (0, 0)), mode="edge")
    near = np.full((height, width), 255, dtype=np.int16)
    for down in range(3):
        for right in range(3):
            shifted = padded[down : down + height, right : right + width]
            near = np.minimum(near, np.abs(one - shifted).max(axis=2))
    return near > SHADE
