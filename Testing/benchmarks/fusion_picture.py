"""A sheet of pictures: both images, the moving one as each method registers it, and what they are fused to.

Only of images whose licences allow it (``fusion_cases.SHOWABLE``), each with its credit below. ``fusion.py --pictures``
draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fusion_cases as cases
import fusion_rules as rules
import fusion_warps as warps
import numpy as np

SIZE = 2.3  # inches a picture
SHADES = 160  # of the sheet
TITLES = {
    "regnet-bsafusion": "BSAFusion",
    "regnet-bsafusion-network": "BSAFusion, one pass",
    "simpleitk": "SimpleITK",
    "ants": "ANTs",
    "regnet-masr": "MASR-Net",
    "regnet-deformgan": "Deform-GAN",
}


def draw(shown: Sequence[cases.Case], folders: Sequence[Path], methods: Sequence[str], target: Path) -> None:
    """Write ``target`` (PNG): of every case a row for registering and one for fusing.

    Args:
        folders: of the cases, as ``fusion.py`` leaves them.
        methods: what has registered them; a method that failed leaves its place empty.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    rows = [row for case, folder in zip(shown, folders, strict=True) for row in panels(case, folder, methods)]
    columns = max(len(row) for row in rows)
    size = (SIZE * columns, 1.3 * SIZE * len(rows))
    figure, grid = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for places, row in zip(grid, rows, strict=True):
        for axes, (title, image) in zip(places, row.items(), strict=False):
            axes.set_title(title, fontsize=9)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        for axes in places:
            axes.axis("off")
    for number, case in enumerate(shown):
        below = grid[2 * number + 1, 0]
        below.text(0, -0.04, case.credit, transform=below.transAxes, fontsize=8, va="top", in_layout=False)
    figure.get_layout_engine().set(h_pad=0.12, rect=(0, 0.02, 1, 0.98))
    partial = target.with_suffix(".partial.png")
    figure.savefig(partial, dpi=73)
    plt.close(figure)
    with Image.open(partial) as drawn:  # a third of the bytes, and nothing is lost to the eye
        drawn.convert("RGB").quantize(SHADES, dither=Image.Dither.NONE).save(partial, optimize=True)
    partial.replace(target)


def panels(case: cases.Case, folder: Path, methods: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Two rows of pictures by title, (H, W) or (H, W, 3) in [0, 1]: registered, and fused."""
    with np.load(folder / "case.npz") as stored:
        fixed, colour, truth = (stored[key].astype(np.float64) for key in ("fixed", "colour", "truth"))
    fields = {name: folder / name / "field.npy" for name in methods}
    fields = {name: np.load(file).astype(np.float64) for name, file in fields.items() if file.is_file()}
    warped = {name: np.clip(warps.resampled(colour, field), 0, 1) for name, field in fields.items()}
    first = {"fixed": fixed, "moving,\ndeformed": colour}
    for name, image in warped.items():
        if name != "identity":
            first[f"{TITLES.get(name, name)},\nregistered"] = image
    fuser = next((name for name in methods if (folder / name / "fused.npy").is_file()), None)
    moved = warped[fuser] if fuser else np.clip(warps.resampled(colour, truth), 0, 1)
    moving = np.clip(cases.luminance(moved), 0, 1)
    fused = {name: rule(fixed, moving) for name, rule in rules.RULES.items() if rules.available(name)}
    if fuser:
        own = np.clip(np.load(folder / fuser / "fused.npy").astype(np.float64), 0, 1)
        fused = {TITLES.get(fuser, fuser): own, **fused}
    second = {"average,\nnot registered": tinted((fixed + cases.luminance(colour)) / 2, colour)}
    second.update({f"{name},\nfused": tinted(image, moved) for name, image in fused.items()})
    return [first, second]


def tinted(brightness: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """``brightness`` (H, W) as luminance with the hue of ``colour`` (H, W, 3), in [0, 1]."""
    return np.clip(brightness[..., None] + colour - cases.luminance(colour)[..., None], 0, 1)
