"""What came of a registration: ``report.json`` for machines and ``report.html``, one page that needs nothing else."""

from __future__ import annotations

import json
import math
import os
from html import escape
from pathlib import Path
from string import Template

import numpy as np

from . import report_views as views
from .files import replacing
from .image import Image
from .report_numbers import header, number, plain, tables, tiles, verdict_box, warnings_box
from .report_views import LinearPart, Plane
from .transform import Transform

TEMPLATE = Path(__file__).with_name("report_template.html")


def write_report_json(report: dict, path: str | os.PathLike) -> None:
    """Write ``report`` as indented UTF-8 JSON.

    Raises:
        InputError: the place cannot be written.
    """
    _write_text(json.dumps(plain(report), indent=2, ensure_ascii=False) + "\n", Path(path))


def write_report_html(
    path: str | os.PathLike,
    fixed: Image,
    moving_before: Image,
    warped: Image,
    transform: Transform,
    report: dict,
    labels: Image | None = None,
) -> None:
    """Write the page. ``moving_before``, ``warped`` and ``labels`` lie on the grid of ``fixed``.

    Raises:
        InputError: the place cannot be written.
    """
    _write_text(render_html(fixed, moving_before, warped, transform, report, labels), Path(path))


def render_html(
    fixed: Image, moving_before: Image, warped: Image, transform: Transform, report: dict, labels: Image | None = None
) -> str:
    """The page as text."""
    pictures = {"fixed": views.grey(fixed), "before": views.grey(moving_before), "after": views.grey(warped)}
    shown = views.planes(fixed.grid, views.content_centre(pictures["fixed"]))
    styles = [
        f".i-{name}-{plane.key}{{background-image:url({views.data_uri(views.to_bytes(plane.cut(array)))})}}"
        for name, array in pictures.items()
        for plane in shown
    ]
    linear = LinearPart.fit(transform, fixed.grid, pictures["fixed"] > 0.1)
    tile = views.nice_step(max(max(plane.size_mm) for plane in shown), 8)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        header=header(report),
        warnings=verdict_box(report) + warnings_box(report),
        tiles=tiles(report),
        images="\n".join(styles),
        layout=_layout(shown),
        tile=f"{tile:g}",
        tile_low=f"{tile / 4:g}",
        tile_high=f"{tile * 4:g}",
        tile_step=f"{tile / 20:g}",
        checkers="".join(_checker(plane, state) for state in ("before", "after") for plane in shown),
        fades="".join(_fade(plane) for plane in shown),
        grids=_grids(shown, linear),
        jacobian=_jacobian(shown, linear, pictures["fixed"]),
        scale=number(linear.scale),
        labels=_labels(shown, labels) if labels is not None else "",
        tables=tables(report),
        convention=_convention(shown),
        version=escape(str(report.get("version", ""))),
    )


def _layout(shown: list[Plane]) -> str:
    """Column widths in proportion to millimetres, so that all planes have one scale, and one height for a row."""
    height = max(plane.size_mm[0] for plane in shown)
    if len(shown) == 1:
        # One plane: before and after stand side by side, and nothing is taller than a screen.
        width = min(540.0, 560.0 * shown[0].size_mm[1] / height)
        rules = [
            ".planes{display:flex;flex-wrap:wrap}.note,.bar{flex-basis:100%}",
            f".panel{{width:min(100%,{width:.0f}px)}}",
        ]
    else:
        rules = [".planes{grid-template-columns:" + " ".join(f"{plane.size_mm[1]:.3f}fr" for plane in shown) + "}"]
    for plane in shown:
        rules.append(f".p-{plane.key}{{aspect-ratio:{plane.size_mm[1]:.4f}/{height:.4f}}}")
        rules.append(f".p-{plane.key} .slice{{aspect-ratio:{plane.size_mm[1]:.4f}/{plane.size_mm[0]:.4f}}}")
        # Tiles are squares in millimetres: a mask of two tiles per side, as a share of the slice.
        rules.append(
            f".p-{plane.key} .checker{{--tw:calc(var(--tile)*{200 / plane.size_mm[1]:.5f}%);"
            f"--th:calc(var(--tile)*{200 / plane.size_mm[0]:.5f}%)}}"
        )
    return "\n".join(rules)


def _panel(plane: Plane, inside: str, badge: str = "", label: str = "") -> str:
    """A black frame with one slice, its orientation letters and its name."""
    sides = zip(("left", "right", "top", "bottom"), plane.letters, strict=True)
    letters = "".join(f'<span class="letter {side}">{letter}</span>' for side, letter in sides if letter)
    where = plane.name
    if len(plane.grid.shape) == 3 and plane.grid.ndim == 3:
        where = f"{plane.name} <small>{plane.index + 1}/{plane.grid.shape[plane.axis]}</small>"
    mark = f'<span class="badge {badge.lower()}">{badge}</span>' if badge else ""
    name = escape(f"{plane.name} plane: {label}".strip())
    return (
        f'<figure class="panel p-{plane.key}"><div class="slice" role="img" aria-label="{name}">{inside}</div>'
        f"{letters}<figcaption>{where}</figcaption>{mark}</figure>"
    )


def _layer(name: str, plane: Plane, extra: str = "") -> str:
    return f'<div class="layer i-{name}-{plane.key} {extra}"></div>'


def _checker(plane: Plane, state: str) -> str:
    inside = _layer("fixed", plane) + _layer(state, plane, "checker")
    return _panel(plane, inside, state.title(), f"checkerboard of fixed and moving image {state} registration")


def _fade(plane: Plane) -> str:
    inside = _layer("fixed", plane) + _layer("before", plane, "fade before") + _layer("after", plane, "fade after")
    return _panel(plane, inside, "", "fixed image fading into the moving image")


def _grids(shown: list[Plane], linear: LinearPart) -> str:
    """The regular grid after the non-linear part of the transform, drawn over the fixed image."""
    spacing = views.nice_step(max(max(plane.size_mm) for plane in shown), 28)
    panels = []
    for plane in shown:
        height, width = plane.size_mm
        drawn = views.grid_lines(plane, linear.rest, spacing)
        lines = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) for line in drawn)
        drawing = (
            f'<svg class="layer" viewBox="0 0 {width:.2f} {height:.2f}" preserveAspectRatio="none">'
            f'<path class="grid" d="{lines}"/></svg>'
        )
        panels.append(_panel(plane, _layer("fixed", plane, "dim") + drawing, "", "deformed grid"))
    return "".join(panels) + f'<p class="note">Grid lines every {spacing:g} mm before deformation.</p>'


def _jacobian(shown: list[Plane], linear: LinearPart, fixed: np.ndarray) -> str:
    """Colour maps of the determinant over the linear scale, the colour bar, and how many shown pixels fold."""
    maps = []
    for plane in shown:
        slab, place = plane.slab()
        determinant = np.take(linear.transform.jacobian_determinant(slab), place, axis=plane.axis)
        maps.append(plane.turn(determinant) / linear.scale)
    inside = [plane.cut(fixed) > 0.1 for plane in shown]
    values = np.concatenate([m[i] if i.any() else m.ravel() for m, i in zip(maps, inside, strict=True)])
    positive = values[values > 0]
    spread = float(np.percentile(np.abs(np.log2(positive)), 99)) if positive.size else 1.0
    reach = min(max(math.ceil(spread), 1), 3)
    folds = sum(int((m <= 0).sum()) for m in maps)
    panels = []
    for plane, values in zip(shown, maps, strict=True):
        picture = views.data_uri(views.jacobian_colours(values, plane.cut(fixed), reach))
        image = f'<img class="layer" alt="" src="{picture}">'
        panels.append(_panel(plane, image, "", "map of the Jacobian determinant"))
    return "".join(panels) + _colour_bar(reach, folds)


def _colour_bar(reach: int, folds: int) -> str:
    stops = []
    for level in np.linspace(-1, 1, 21):
        # The bar shows what the map shows over black: colour times strength.
        red, green, blue = (views.colour_scale(np.array(level)) * abs(level) ** 0.8).astype(int)
        stops.append(f"rgb({red},{green},{blue})")
    ticks = "".join(f"<span>{2.0**power:g}</span>" for power in range(-reach, reach + 1))
    found = f"{folds} folded pixel{'s' if folds != 1 else ''} in these planes" if folds else "no folds in these planes"
    return (
        '<div class="bar"><span>smaller in the moving image</span><div class="scale">'
        f'<div class="ramp" style="background:linear-gradient(90deg,{",".join(stops)})"></div>'
        f'<div class="ticks">{ticks}</div></div><span>larger in the moving image</span>'
        f'<span class="fold"><i></i>fold (not positive): {found}</span></div>'
    )


def _labels(shown: list[Plane], labels: Image) -> str:
    array = labels.data[0].numpy()
    count = len(np.unique(array[array != 0]))
    panels = []
    for plane in shown:
        picture = views.data_uri(views.label_colours(plane.cut(array)))
        overlay = f'<img class="layer label" alt="" src="{picture}">'
        panels.append(_panel(plane, _layer("fixed", plane) + overlay, "", "labels carried to the fixed image"))
    return (
        '<section id="labels" style="--ink:.55"><div class="head"><div><h2>Labels carried to the fixed image</h2>'
        f"<p>{count} label{'s' if count != 1 else ''} of the moving image, taken through the transform.</p></div>"
        '<div class="controls"><label>Opacity <input type="range" min="0" max="1" step="0.01" value="0.55" '
        'data-var="--ink"></label></div></div>'
        f'<div class="planes">{"".join(panels)}</div></section>'
    )


def _convention(shown: list[Plane]) -> str:
    if len(shown) == 1:
        return "Two-dimensional image, shown as stored."
    return (
        "Radiological view: the patient's left (L) is on the right of the picture. Planes are those of the fixed "
        "image, named after the nearest anatomical plane; lengths are true to millimetres."
    )


def _write_text(text: str, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
