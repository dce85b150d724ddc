"""``regnet propagate`` between its options and its tables: files in, a folder of segmentations and a report out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ._version import __version__
from .cli_work import read_image, read_labels
from .errors import InputError
from .events import Events
from .files import SUFFIXES, write_sitk
from .image import Image
from .outputs import staged_folder
from .propagate import Propagated, check_interpolation, check_sequence, propagate_along, propagate_to
from .report import write_report_json
from .segmentation import Segmentation
from .segmentation_files import SEGMENTATION_ENDING, as_segmentation, read_segmentation, small, write_segmentation
from .series import Files, Frames, frame_count, join_frames, read_4d
from .transform import Transform, read_transform

FORMATS = ("auto", "nii.gz", "seg.nrrd")
SERIES_NAME = "labels_propagated.nii.gz"
REPORT_NAME = "report.json"


@dataclass(frozen=True)
class Request:
    """What the command line asks for; see ``regnet propagate --help``."""

    scan: Path
    segmentation: Path
    targets: tuple[Path, ...]
    segments: tuple[str, ...] = ()
    along: str | None = None
    frame: int = 0
    transforms: tuple[Path, ...] = ()
    inverse: bool = False
    references: tuple[Path, ...] = ()
    scan_mask: Path | None = None
    target_mask: Path | None = None
    interpolation: str = "smooth"
    format: str = "auto"
    keep_transforms: bool = True
    registration: dict[str, Any] = field(default_factory=dict)


def propagate_files(request: Request, folder: Path, events: Events) -> dict[str, Any]:
    """Do what ``request`` asks for and write all its files to ``folder``, or none.

    Returns:
        The report, as it was written.

    Raises:
        InputError, ModelError: something given cannot be used. Cancelled: ``events`` asked to stop.
    """
    events.progress(0.0, "loading libraries")
    started = time.perf_counter()
    with events.stage("load", 0.0, 0.02):
        work = _Work(request)
    with staged_folder(folder, work.outputs(folder)) as staging:
        entries = [work.write(n, result, staging) for n, result in work.results(events.share(0.02, 0.99))]
        with events.stage("write", 0.99, 1.0):
            work.finish(staging)
            report = {
                "scan": request.scan.name,
                "segmentation": request.segmentation.name,
                "created": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
                "version": __version__,
                "along": work.along,
                "frame": request.frame if work.along else None,
                "interpolation": request.interpolation,
                "targets": sorted(entries, key=lambda entry: entry["number"]),
                "time_s": round(time.perf_counter() - started, 3),
            }
            write_report_json(report, staging / REPORT_NAME)
    return report


class _Work:
    """One run: the checked request, what it reads and what it writes."""

    def __init__(self, request: Request) -> None:
        self.request = request
        check_interpolation(request.interpolation)
        if request.format not in FORMATS:
            raise InputError(f"There is no format {request.format!r}; choose from {', '.join(FORMATS)}.")
        self.is_series = frame_count(request.scan) > 1
        if self.is_series and request.targets:
            raise InputError(f"{str(request.scan)!r} is a sequence by itself, so it takes no targets; leave them out.")
        self.along = request.along or ("reference" if self.is_series else None)
        if not self.is_series and not request.targets and not self.along:
            raise InputError(f"{str(request.scan)!r} is a single frame; name the targets, or give a 4D file.")
        self._open_scans()
        self.segmentation = read_segmentation(request.segmentation).select(request.segments)
        named = self.segmentation.is_named or self.segmentation.layers > 1
        wanted = request.format if request.format != "auto" else "seg.nrrd" if named else "nii.gz"
        if wanted == "nii.gz" and self.segmentation.layers > 1:
            raise InputError("Segments of this segmentation overlap, which nii.gz cannot hold; take seg.nrrd.")
        self.ending = f".{wanted}"
        self.joined: dict[int, sitk.Image] | None = {} if self.is_series and wanted == "nii.gz" else None
        self.transforms = Files(request.transforms, self._read_transform) if request.transforms else None
        self.references = self._open_references()
        self._check_masks()

    def _open_scans(self) -> None:
        request = self.request
        if self.is_series:
            self.series = read_4d(request.scan)
            self.scans = Frames(self.series, Image.from_sitk)
        else:
            self.scans = Files((request.scan, *request.targets), read_image)
        self.count = len(self.scans) if self.along else len(request.targets)
        given = len(request.transforms)
        if self.along:
            check_sequence(self.count, request.frame, self.along, given or None)
            self.names = [f"frame_{n:03d}" for n in range(self.count)]
        else:
            self.names = unique_names(request.targets)
            if given and given != self.count:
                raise InputError(f"There are {self.count} targets and {given} transforms; give one for each target.")

    def _open_references(self) -> Sequence[Segmentation] | None:
        paths = self.request.references
        if not paths:
            return None
        if self.is_series and len(paths) == 1:
            found: Sequence[Segmentation] = Frames(read_4d(paths[0]), lambda frame: as_segmentation(frame, paths[0]))
        else:
            found = Files(paths, read_segmentation)
        if len(found) != self.count:
            what = "frames" if self.along else "targets"
            raise InputError(
                f"There are {self.count} {what} and {len(found)} reference segmentations; give one for each."
            )
        return found

    def _check_masks(self) -> None:
        request = self.request
        if (request.scan_mask or request.target_mask) and self.along == "chain":
            raise InputError(
                "Masks cannot be used with a chain, whose frames are both fixed and moving; leave them out."
            )
        if request.target_mask and self.count > 1:
            raise InputError("A mask of the target can be used with a single target only; leave it out.")

    def _read_transform(self, path: Path) -> Transform:
        found = read_transform(path)
        return found.inverse() if self.request.inverse else found

    def outputs(self, folder: Path) -> set[str]:
        """The names of all files that this run can write.

        Raises:
            InputError: one of them is an input.
        """
        names = {f"{name}_transform.h5" for name in self.names} | {REPORT_NAME}
        if self.joined is not None:
            names.add(SERIES_NAME)
        else:
            names |= {f"{name}_propagated{self.ending}" for name in self.names}
        request = self.request
        given = (request.scan, request.segmentation, *request.targets, *request.transforms, *request.references)
        for path in given:
            if path.resolve().parent == folder.resolve() and path.name in names:
                raise InputError(f"The result would overwrite {str(path)!r}; choose another output folder with -o.")
        return names

    def results(self, events: Events) -> Iterator[tuple[int, Propagated]]:
        request = self.request
        options: dict[str, Any] = {
            "references": self.references,
            "transforms": self.transforms,
            "interpolation": request.interpolation,
            "events": events,
            **request.registration,
        }
        for role, path in (("moving_mask", request.scan_mask), ("fixed_mask", request.target_mask)):
            if path is not None:
                options[role] = read_labels(path)
        self.clock = time.perf_counter()
        if self.along:
            yield from propagate_along(self.scans, self.segmentation, frame=request.frame, how=self.along, **options)
        else:
            shown = [path.name for path in request.targets]
            yield from enumerate(propagate_to(self.scans[0], self.segmentation, self.scans[1:], names=shown, **options))

    def write(self, n: int, result: Propagated, folder: Path) -> dict[str, Any]:
        """Write the files of one target; its entry in the report."""
        name, request = self.names[n], self.request
        file = SERIES_NAME if self.joined is not None else f"{name}_propagated{self.ending}"
        if self.joined is not None:
            self.joined[n] = result.segmentation.labels.to_sitk()
        else:
            write_segmentation(result.segmentation, folder / file)
        kept = None
        if request.keep_transforms and request.transforms == () and not (self.along and n == request.frame):
            kept = f"{name}_transform.h5"
            result.transform.write(folder / kept)
        seconds, self.clock = time.perf_counter() - self.clock, time.perf_counter()
        target = (
            name if self.is_series else ((request.scan, *request.targets) if self.along else request.targets)[n].name
        )
        return {
            "number": n,
            "target": target,
            "file": file,
            "transform": kept or (str(request.transforms[n].name) if request.transforms and not self.along else None),
            **result.report,
            "time_s": round(seconds, 3),
        }

    def finish(self, folder: Path) -> None:
        """Write the frames that go into one file."""
        if self.joined is None:
            return
        images = [self.joined[n] for n in range(self.count)]
        low = min(int(sitk.GetArrayViewFromImage(image).min()) for image in images)
        high = max(int(sitk.GetArrayViewFromImage(image).max()) for image in images)
        ends = Image.from_numpy(np.array([[[low, high]]], np.int32), np.eye(4))
        kind = small(ends).to_sitk().GetPixelID()
        write_sitk(join_frames([sitk.Cast(image, kind) for image in images], self.series), folder / SERIES_NAME)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Names for the results of ``paths``: the file's own; with the folder's before it, or a number, where two agree."""
    own = [stem(path) for path in paths]
    with_folder = [f"{path.resolve().parent.name}_{name}" for path, name in zip(paths, own, strict=True)]
    for names in (own, with_folder):
        if len({name.lower() for name in names}) == len(names):
            return names
    return [f"{n + 1:03d}_{name}" for n, name in enumerate(own)]


def stem(path: Path) -> str:
    """The name of a file without the endings of image formats, or of a folder."""
    ending = next((end for end in (SEGMENTATION_ENDING, *SUFFIXES) if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(ending)] or path.resolve().name
