"""Draws the extension's and the modules' icons: ``python Resources/Icons/draw_icons.py`` from the repository's root.

Each is 128 x 128 on a transparent ground: a rounded tile with a deformed grid, and on it what the module is about.
The thumbnails of the demo pairs are checkerboards of the two images before registration, that of the atlas shows its
regions.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch, Rectangle

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "RegNetModules"
GROUND, LINES, FIXED, MOVING, WHITE = "#14324a", "#3d6a8a", "#4fd1c5", "#ff9f4a", "#ffffff"


def tile():
    figure = plt.figure(figsize=(1.28, 1.28), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal")
    axes.axis("off")
    style = "round,pad=0.22,rounding_size=0.3"
    shape = FancyBboxPatch((-0.72, -0.72), 1.44, 1.44, boxstyle=style, fc=GROUND, ec="none")
    axes.add_patch(shape)
    return figure, axes, shape


def warp(x, y, strength=0.16):
    """A smooth swirl that fades towards the border."""
    weight = np.exp(-(x**2 + y**2) / 0.45)
    return x + strength * weight * np.sin(2.2 * y + 0.6), y + strength * weight * np.cos(2.6 * x)


def draw_grid(axes, clip) -> None:
    along = np.linspace(-0.95, 0.95, 80)
    for position in np.linspace(-0.8, 0.8, 7):
        for x, y in ((along, np.full_like(along, position)), (np.full_like(along, position), along)):
            axes.plot(*warp(x, y), color=LINES, lw=1.0, clip_path=clip)


def outline(scale=1.0, deform=0.0):
    """A closed curve like the outline of a brain seen from above."""
    angle = np.linspace(0, 2 * np.pi, 200)
    radius = scale * (0.52 + 0.025 * np.cos(2 * angle) - 0.03 * np.cos(4 * angle) + deform * np.sin(3 * angle + 0.7))
    return 0.86 * radius * np.cos(angle), 1.08 * radius * np.sin(angle)


def draw_regnet(path: Path) -> None:
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    x, y = outline(1.2)
    axes.fill(x, y, color=FIXED, alpha=0.22, lw=0)
    axes.plot(x, y, color=FIXED, lw=3.4)
    x, y = outline(1.2, 0.07)
    axes.plot(x + 0.1, y - 0.04, color=MOVING, lw=3.4, ls=(0, (2.2, 1.1)))
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_avsm(path: Path) -> None:
    """Momentum vectors that flow from one outline to the other."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    x, y = outline(0.62, 0.05)
    axes.plot(x, y, color=MOVING, lw=3.0)
    outer_x, outer_y = outline(1.28)
    axes.plot(outer_x, outer_y, color=FIXED, lw=3.0)
    for index in range(6, 200, 25):
        start, end = np.array([x[index], y[index]]), np.array([outer_x[index], outer_y[index]])
        axes.annotate(
            "",
            xy=start + 0.86 * (end - start),
            xytext=start + 0.16 * (end - start),
            arrowprops={"arrowstyle": "-|>,head_width=0.22,head_length=0.36", "color": WHITE, "lw": 1.6},
        )
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_masr(path: Path) -> None:
    """One anatomy in two contrasts: a bright shell around a dark inside meets a dark shell around a bright inside."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    (x, y), (inner_x, inner_y), (core_x, core_y) = outline(1.28), outline(0.98), outline(0.42, 0.05)
    sides = ((-1.0, (FIXED, GROUND, FIXED)), (0.0, (GROUND, MOVING, GROUND)))
    for left, colours in sides:
        half = Rectangle((left, -1.0), 1.0, 2.0, transform=axes.transData)
        curves = ((x, y), (inner_x, inner_y), (core_x, core_y))
        for (along, up), colour in zip(curves, colours, strict=True):
            axes.fill(along, up, color=colour, lw=0, zorder=3)[0].set_clip_path(half)
    axes.plot([0, 0], [-0.86, 0.86], color=WHITE, lw=2.0, zorder=4)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_ddim(path: Path) -> None:
    """A turned frame that is brought upright in three steps, coarse to fine."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * (0.5, 0.62)
    for step, alpha in ((3, 0.35), (2, 0.6), (1, 1.0)):
        angle, size = np.deg2rad(14 * step - 14), 1.0 - 0.14 * (step - 1)
        turn = size * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
        x, y = turn @ corners.T
        axes.plot(x, y, color=FIXED if step == 1 else MOVING, lw=3.0, alpha=alpha, solid_joinstyle="round")
    x, y = outline(0.55)
    axes.fill(x, y, color=FIXED, alpha=0.35, lw=0)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_deformgan(path: Path) -> None:
    """A brain in two contrasts, and two networks between them: one that translates and one that deforms."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    (x, y), (inner_x, inner_y), (core_x, core_y) = outline(0.78, 0.05), outline(0.56, 0.05), outline(0.24)
    for place, colours in (((-0.36, 0.34), (GROUND, MOVING, GROUND)), ((0.36, -0.34), (FIXED, GROUND, FIXED))):
        for (along, up), colour in zip(((x, y), (inner_x, inner_y), (core_x, core_y)), colours, strict=True):
            axes.fill(along + place[0], up + place[1], color=colour, lw=0, zorder=3)
        edge = MOVING if place[0] < 0 else FIXED
        axes.plot(x + place[0], y + place[1], color=edge, lw=2.2, zorder=4)
    arrow = {"arrowstyle": "-|>,head_width=0.3,head_length=0.5", "color": WHITE, "lw": 2.4}
    for start, end, bend in (((0.16, 0.62), (0.62, 0.2), -0.4), ((-0.16, -0.62), (-0.62, -0.2), -0.4)):
        axes.annotate("", xy=end, xytext=start, arrowprops={**arrow, "connectionstyle": f"arc3,rad={bend}"}, zorder=5)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_bsafusion(path: Path) -> None:
    """A skull and what glows inside it, on their way into one picture."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    (x, y), (core_x, core_y) = outline(0.62), outline(0.34, 0.06)
    for place, parts in (((-0.52, 0.42), "skull"), ((0.52, 0.42), "glow"), ((0.0, -0.42), "both")):
        if parts != "skull":
            for size, alpha in ((1.0, 0.35), (0.66, 0.6), (0.33, 1.0)):
                axes.fill(core_x * size + place[0], core_y * size + place[1], color=MOVING, alpha=alpha, lw=0, zorder=3)
        axes.plot(
            x + place[0],
            y + place[1],
            color=FIXED,
            lw=3.2 if parts != "glow" else 1.0,
            alpha=1.0 if parts != "glow" else 0.5,
            zorder=4,
        )
    arrow = {"arrowstyle": "-|>,head_width=0.24,head_length=0.4", "color": WHITE, "lw": 2.0}
    for side in (-1, 1):
        axes.annotate("", xy=(0.26 * side, -0.22), xytext=(0.5 * side, 0.06), arrowprops=arrow, zorder=5)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_propagation(path: Path) -> None:
    """Organs drawn on one scan, and the same ones, deformed, on the next two."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    for number, (left, bottom) in enumerate(((-0.4, 0.4), (0.04, 0.0), (0.48, -0.4))):
        deform, edge = 0.03 * number, MOVING if number == 0 else FIXED
        x, y = outline(0.78, deform)
        axes.fill(x + left, y + bottom, color=GROUND, lw=0, zorder=2 * number + 2)
        axes.plot(x + left, y + bottom, color=edge, lw=2.6, zorder=2 * number + 3)
        for place, scale, colour in (((-0.1, 0.1), 0.26, MOVING), ((0.1, -0.12), 0.32, WHITE)):
            x, y = outline(scale, 2 * deform)
            axes.fill(x + left + place[0], y + bottom + place[1], color=colour, lw=0, zorder=2 * number + 3)
    figure.savefig(path, transparent=True)
    plt.close(figure)


def draw_review(path: Path) -> None:
    """A brain under the glass, and a traffic light."""
    figure, axes, clip = tile()
    draw_grid(axes, clip)
    (x, y), (inner_x, inner_y) = outline(1.05, 0.05), outline(0.72, 0.05)
    axes.fill(x - 0.22, y, color=MOVING, lw=0, zorder=2)
    axes.fill(inner_x - 0.22, inner_y, color=GROUND, lw=0, zorder=3)
    axes.plot(x - 0.18, y + 0.03, color=FIXED, lw=3.0, zorder=4)
    axes.add_patch(plt.Rectangle((0.42, -0.72), 0.42, 1.2, facecolor="#23272b", edgecolor=WHITE, lw=2.0, zorder=5))
    for place, colour in ((0.26, "#d13b30"), (-0.12, "#e8a317"), (-0.5, "#2e9e5b")):
        axes.add_patch(plt.Circle((0.63, place), 0.145, color=colour, zorder=6))
    figure.savefig(path, transparent=True)
    plt.close(figure)


def demo_slice(name: str, grid=None):
    """The middle axial slice of a demo image, on its own grid or on another one's, and that grid."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(ROOT / f"Resources/Demo/{name}.nii.gz"), sitk.sitkFloat32)
    image = image if grid is None else sitk.Resample(image, grid)
    return sitk.GetArrayFromImage(image)[image.GetSize()[2] // 2], image


def to_unit(plane):
    return np.clip(plane / np.percentile(plane[plane > 0], 99), 0, 1)


def draw_plane(path: Path, plane) -> None:
    """A picture of grey (rows, columns) or colour (rows, columns, 3), in the middle of a black square."""
    size = max(plane.shape[:2])
    canvas = np.zeros((size, size, *plane.shape[2:]))
    top, left = (size - plane.shape[0]) // 2, (size - plane.shape[1]) // 2
    canvas[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    figure = plt.figure(figsize=(1.28, 1.28), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1)
    axes.axis("off")
    figure.savefig(path)
    plt.close(figure)


def draw_pair(path: Path, fixed: str, moving: str) -> None:
    """The two images in tiles, where they lie in the world."""
    plane, grid = demo_slice(fixed)
    slices = [to_unit(one) for one in (plane, demo_slice(moving, grid)[0])]
    rows, columns = np.indices(slices[0].shape) // 20
    draw_plane(path, np.where((rows + columns) % 2 == 0, *slices))


def draw_segmented(path: Path, image: str, labels: str) -> None:
    """The image with its regions, which lie on the same grid, each in a colour of its own."""
    plane, regions = demo_slice(image)[0], demo_slice(labels)[0].astype(int)
    colours = np.random.default_rng(3).uniform(0.2, 1.0, (regions.max() + 1, 3))
    grey = to_unit(plane)[..., None]
    draw_plane(path, np.where(regions[..., None] > 0, 0.5 * grey + 0.5 * colours[regions], grey))


if __name__ == "__main__":
    draw_regnet(ROOT / "Resources/Icons/RegNet.png")
    draw_regnet(MODULES / "RegNet/Resources/Icons/RegNet.png")
    draw_avsm(MODULES / "RegNetAVSM/Resources/Icons/RegNetAVSM.png")
    draw_masr(MODULES / "RegNetMASR/Resources/Icons/RegNetMASR.png")
    draw_ddim(MODULES / "RegNetDDIM/Resources/Icons/RegNetDDIM.png")
    draw_deformgan(MODULES / "RegNetDeformGAN/Resources/Icons/RegNetDeformGAN.png")
    draw_bsafusion(MODULES / "RegNetBSAFusion/Resources/Icons/RegNetBSAFusion.png")
    draw_propagation(MODULES / "RegNetPropagation/Resources/Icons/RegNetPropagation.png")
    draw_review(MODULES / "RegNetReview/Resources/Icons/RegNetReview.png")
    draw_pair(MODULES / "RegNet/Resources/Icons/RegNetDemoPair.png", "patient_T1", "atlas_T1")
    draw_pair(MODULES / "RegNet/Resources/Icons/RegNetTwoContrasts.png", "patient_T2", "atlas_T1")
    draw_segmented(MODULES / "RegNet/Resources/Icons/RegNetSegmentedAtlas.png", "atlas_T1", "atlas_labels")
