"""The report: true orientation and scale, numbers as they are, one file that asks nobody for anything."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
import torch
from helpers import blob_image, oblique_grid, random_affine, smooth_field
from regnet import report_views as views
from regnet.image import Grid, Image
from regnet.report import render_html, write_report_html, write_report_json
from regnet.report_numbers import number, plain
from regnet.transform import Affine, Composite, DisplacementField

REPORT = {
    "model": "avsm",
    "weights": None,
    "device": "cpu",
    "working_grid": {"shape": [30, 36, 40], "spacing": [1.0, 1.5, 2.0]},
    "time_s": {"align": 2.5, "momentum": 7.75, "model": 10.0, "total": 12.5},
    "peak_memory_mb": 512.25,
    "similarity_before": 0.25,
    "similarity_after": 0.875,
    "folding_percent": 0.0,
    "sdlogj": 0.125,
    "warnings": [],
    "fixed": "patient.nii.gz",
    "moving": "atlas.nii.gz",
    "version": "1.2.3",
}


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags are closed in order."""

    VOID = {"meta", "input", "img", "br", "link", "path"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.links.append(value)
            if name == "id":
                self.ids.add(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def decoded(source: str) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(source)), format="png")


@pytest.fixture(scope="module")
def case():
    grid = oblique_grid((30, 36, 40), (1.0, 1.5, 2.0), (10, -5, 15))
    transform = Composite((smooth_field(grid, 4.0, seed=3), random_affine(2)))
    moving = blob_image(oblique_grid((34, 32, 38), (1.5, 1.2, 1.4), (0, 20, 0)), seed=1)
    fixed = moving.resample(grid, transform)
    return fixed, moving.resample(grid), moving.resample(grid, transform), transform


def test_page_is_complete_and_self_contained(case):
    text = render_html(*case, REPORT)
    page = Page(text)
    assert {"checker", "fade", "deformation", "jacobian", "numbers"} <= page.ids
    assert "labels" not in page.ids
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    # Style sheets and scripts ask for nothing either.
    assert all(target.startswith("data:") for target in re.findall(r"url\(([^)]*)\)", text))
    assert not re.search(r"https?:|//cdn|@import|fetch\(|XMLHttpRequest|<link|<iframe", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text
    words = " ".join(page.words)
    grid = "40 × 36 × 30 at 1 × 1.5 × 2 mm"
    for expected in ("0.250", "0.875", "+0.625", "12.5", "512", grid, "atlas.nii.gz", "1.2.3"):
        assert expected in words, expected
    assert words.count("Before") >= 3 and words.count("After") >= 3
    assert text.count('class="layer i-before-') == text.count('class="layer i-after-') == 6


def test_times_are_those_of_the_main_stages(case):
    """Parts of a stage are not counted twice; without known stages all are shown."""
    text = render_html(*case, REPORT)
    assert re.findall(r"<th scope='row'>(align|model|momentum|total)</th>", text) == ["align", "model", "total"]
    assert "width:80.0%" in text
    other = render_html(*case, {**REPORT, "time_s": {"one": 1.0, "two": 3.0}})
    assert "<th scope='row'>two</th>" in other and "width:75.0%" in other and "4.00 s" in other


def test_labels_get_their_own_section(case):
    labels = Image((case[0].data > 0.5).int() * 7 + (case[0].data > 1.0).int(), case[0].index_to_world)
    page = Page(render_html(*case, REPORT, labels))
    assert "labels" in page.ids
    assert "2 labels of the moving image" in " ".join(page.words)


def test_warnings_and_names_are_shown_and_escaped(case):
    report = {**REPORT, "warnings": ["Only <2> GB & less."], "fixed": "<script>alert(1)</script>.nii"}
    text = render_html(*case, report)
    assert "Only &lt;2&gt; GB &amp; less." in text
    assert "<script>alert" not in text
    assert "1 warning" in text and "warning</strong>" not in render_html(*case, REPORT)


def test_missing_numbers_become_dashes(case):
    page = Page(render_html(*case, {"model": "avsm", "sdlogj": float("nan"), "similarity_after": None}))
    shown = " ".join(page.words).split()
    assert shown.count("–") >= 5
    assert not {"None", "nan", "inf"} & set(shown)


def test_files_are_written_whole(case, tmp_path):
    write_report_html(tmp_path / "report.html", *case, REPORT)
    write_report_json(REPORT, tmp_path / "report.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((tmp_path / "report.json").read_text()) == REPORT


def test_json_has_no_nan_and_no_numpy(tmp_path):
    report = {"a": np.float32(0.5), "b": np.inf, "c": np.array([[1, 2]]), "d": {1: np.nan}, "e": tmp_path, "f": True}
    write_report_json(report, tmp_path / "r.json")
    expected = {"a": 0.5, "b": None, "c": [[1, 2]], "d": {"1": None}, "e": str(tmp_path), "f": True}
    assert json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail) == expected
    assert plain((np.int64(3), "x")) == [3, "x"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0, "0"), (0.12345, "0.123"), (0.9996, "1.00"), (12.345, "12.3"), (1432, "1 432"), (-0.5, "-0.500"),
     (123456.7, "123 000"), (2.5e-5, "0.0000250"), (None, "–"), (float("nan"), "–"), (True, "–")],
)  # fmt: skip
def test_numbers_for_people(value, text):
    assert number(value) == text


def test_aspect_ratio_follows_millimetres(case):
    text = render_html(*case, REPORT)
    ratios = dict(re.findall(r"\.p-(\w+) \.slice\{aspect-ratio:([\d.]+/[\d.]+)\}", text))
    # 40 × 36 × 30 voxels of 1 × 1.5 × 2 mm, stored nearly along the axes.
    assert ratios["axial"] == "40.0000/54.0000"
    assert ratios["coronal"] == "40.0000/60.0000"
    assert ratios["sagittal"] == "54.0000/60.0000"


def test_scale_of_the_linear_part_is_not_shown_as_local_change(case):
    """A pure enlargement is grey all over, and the page names its factor."""
    image = case[0]
    grow = Affine(np.diag([1.2, 1.2, 1.2, 1.0]))
    text = render_html(image, image, image, grow, REPORT)
    assert "(1.73 overall)" in text
    identity = render_html(image, image, image, Affine.identity(), REPORT)
    source = r'<img class="layer" alt="" src="data:image/png;base64,([^"]+)"'
    grown, same = ([decoded(found) for found in re.findall(source, page)] for page in (text, identity))
    assert len(grown) == len(same) == 3
    for one, other in zip(grown, same, strict=True):
        assert one.max() > 0.3
        np.testing.assert_allclose(one, other, atol=0.02)


def test_folds_are_marked_and_counted():
    grid = Grid((17, 21, 25), np.diag([1.0, 1.5, 2.0, 1.0]))
    points = grid.points() - grid.center()
    field = np.zeros((*grid.shape, 3), np.float32)
    inside = np.abs(points).max(-1) < 5
    field[..., 0] = np.where(inside, -2.0 * points[..., 0], 0)  # x becomes -x: mirrored, so folded
    transform = DisplacementField(field, grid)
    image = blob_image(grid)
    determinant = transform.jacobian_determinant(grid)
    planes = views.planes(grid, views.content_centre(views.grey(image)))
    expected = sum(int((plane.cut(determinant) <= 0).sum()) for plane in planes)
    assert expected > 20
    assert f"{expected} folded pixels in these planes" in render_html(image, image, image, transform, REPORT)
    axial = planes[0]
    colours = views.jacobian_colours(axial.cut(determinant), axial.cut(views.grey(image)), 1.0)
    marked = (colours == np.array(views.FOLD_COLOUR)).all(-1)
    np.testing.assert_array_equal(marked, axial.cut(determinant) <= 0)


def test_two_dimensional_images():
    matrix = np.diag([0.5, 2.0, 1.0, 1.0])
    grid = Grid((1, 30, 60), matrix, 2)
    y, x = np.mgrid[0:30, 0:60]
    image = Image.from_numpy(np.sin(x / 5.0)[None] * np.cos(y / 4.0)[None] + 1, matrix, 2)
    field = np.zeros((*grid.shape, 3), np.float32)
    field[..., 0] = np.sin(y / 10.0)
    text = render_html(image, image, image, DisplacementField(field, grid), {**REPORT, "working_grid": {}})
    page = Page(text)
    assert ".p-image .slice{aspect-ratio:30.0000/60.0000}" in text
    assert text.count('class="letter') == 0 and "Axial" not in " ".join(page.words)
    assert "Two-dimensional image" in text


def test_colour_images_and_integer_images_are_shown():
    grid = Grid((9, 18, 27), np.eye(4))
    colour = Image(torch.rand((3, *grid.shape)), grid.index_to_world)
    picture = views.grey(colour)
    assert picture.shape == grid.shape and picture.min() >= 0 and picture.max() <= 1
    constant = Image(torch.ones((1, *grid.shape)), grid.index_to_world)
    Page(render_html(constant, constant, constant, Affine.identity(), REPORT))


def test_rendering_is_the_same_every_time(case):
    assert render_html(*case, REPORT) == render_html(*case, REPORT)
