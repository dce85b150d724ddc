"""The pipeline from two images in the world to a transform in the world."""

from __future__ import annotations

import math
import os
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ._version import __version__
from .align import align as find_alignment
from .align import better, check_alignment, climb
from .callable_module import make_callable
from .checks import as_image, as_mask, check_pair
from .devices import memory_budget, resolve_device
from .errors import MemoryError_
from .events import Events
from .image import Grid, Image
from .models import get_info, get_model, get_parameters
from .models.base import ParametersBase
from .pair import LINEAR_MB, Pair, make_pair
from .refine import is_auto, schedule_for, unfold
from .region import Region
from .registration import Registration
from .registration_numbers import numbers
from .tapering import tapered
from .transform import Affine, Composite, DisplacementField, Transform
from .usage import PeakMemory
from .zoo import load_state, weights_for

if TYPE_CHECKING:
    from .colour_table import ColourTable
    from .fusing import Fusion


def register(
    fixed: Image | str | os.PathLike,
    moving: Image | str | os.PathLike,
    model: str = "avsm",
    *,
    align: str = "auto",
    refine: str | int = "auto",
    fixed_mask: Image | str | os.PathLike | None = None,
    moving_mask: Image | str | os.PathLike | None = None,
    region: Image | str | os.PathLike | None = None,
    taper: float = 10.0,
    parameters: dict[str, Any] | None = None,
    device: str = "auto",
    seed: int = 0,
    memory_mb: float | None = None,
    colours: ColourTable | None = None,
    events: Events | None = None,
) -> Registration:
    """Register ``moving`` to ``fixed``.

    Args:
        fixed, moving: images or paths. Models that fuse also take them in red, green and blue: they register the
            luminance and fuse the colours.
        model: a name from :data:`regnet.models.MODEL_NAMES`.
        align: a name from :data:`regnet.align.ALIGNMENTS`; ``auto`` for what the model asks for.
        refine: ``"auto"``, ``"off"``, or the iterations of the finest level.
        fixed_mask, moving_mask: non-zero where the images may be compared.
        region: non-zero where in the fixed image's world a registration is wanted. The alignment is that of the whole
            images. What deforms looks at the region alone and fades around it: beyond the taper the transform is the
            alignment, to the bit. A linear transform cannot fade; the region then decides what it fits.
        taper: over how many mm outside the region a deformation fades; longer where it would fold.
        parameters: the model's own parameters by name.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        memory_mb: what the work may take; by default a share of what is free. A coarser grid is used if need be.
        colours: of the moving image's values, for models that fuse; others have no use for them.

    Raises:
        InputError, ModelError: something given cannot be used; the message says what and why.
        MemoryError_: the device ran out of memory all the same.
        Cancelled: ``events`` asked to stop.
    """
    events = events or Events()
    with PeakMemory() as memory:
        started = time.perf_counter()
        job = _Job(model, align, refine, parameters, device, seed, memory_mb, colours, events)
        try:
            result = job.run(fixed, moving, fixed_mask, moving_mask, region, taper)
        except torch.OutOfMemoryError:
            raise MemoryError_(
                f"The {job.device} device ran out of memory; set a lower memory limit or choose the cpu device."
            ) from None
        result.report["time_s"]["total"] = round(time.perf_counter() - started, 3)
    result.report["peak_memory_mb"] = memory.peak_mb
    return result


class _Job:
    """One registration: the checked options, and the steps in order."""

    def __init__(
        self,
        model: str,
        align: str,
        refine: str | int,
        parameters: dict[str, Any] | None,
        device: str,
        seed: int,
        memory_mb: float | None,
        colours: ColourTable | None,
        events: Events,
    ) -> None:
        self.info, self.module = get_info(model), get_model(model)
        self.parameters: ParametersBase = get_parameters(model).from_dict(parameters)
        self.refines = schedule_for(refine) is not None
        self.device = resolve_device(device)
        self.memory_mb = memory_budget(self.device, memory_mb)
        self.align = align
        if not is_auto(align):
            check_alignment(align)
        self.refine, self.seed, self.colours, self.events = refine, int(seed), colours, events
        self.taper_mm: float | None = None
        torch.manual_seed(self.seed)

    def run(
        self, fixed: Any, moving: Any, fixed_mask: Any, moving_mask: Any, region: Any, taper: float
    ) -> Registration:
        with self.events.stage("read", 0.0, 0.03):
            self.shown = {"fixed": as_image(fixed, "fixed image"), "moving": as_image(moving, "moving image")}
            self.fixed, self.moving = self.shown.values()
            if self.info.fuses:
                self.fixed, self.moving = self.fixed.luminance(), self.moving.luminance()
            check_pair(self.fixed, self.moving, self.info)
            self.align = self.info.alignment_of(self.fixed.ndim) if is_auto(self.align) else self.align
            self.weights = weights_for(self.info, self.module, self.parameters, self.fixed.ndim, self.events)
            self.state = load_state(self.weights) if self.weights else None
            self.config = self.weights.config or {} if self.weights else None
            self.fixed_mask = as_mask(fixed_mask, self.fixed, "fixed")
            self.moving_mask = as_mask(moving_mask, self.moving, "moving")
            region = as_mask(region, self.fixed, "region")
            self.region = None if region is None else Region.of(region, self.fixed.grid, taper)
        with self.events.stage("align", 0.03, 0.2):
            alignment = find_alignment(
                self.fixed,
                self.moving,
                self.align,
                fixed_mask=self.fixed_mask,
                moving_mask=self.moving_mask,
                events=self.events,
                seed=self.seed,
                precise=False,
            )
            self.events.preview_alignment(alignment, self.fixed.grid)
        solve = self._linear if self.info.transform_kind == "linear" else self._dense
        alignment, pair, displacement = solve(alignment)
        with self.events.stage("export", 0.9, 1.0), torch.inference_mode():
            return self._export(alignment, pair, displacement)

    def _synthetic(self, pair: Pair, displacement: Tensor | None, transform: Transform) -> Image | None:
        """What a model that translates makes of the registered moving image, on the fixed lattice."""
        if not self.info.translates or displacement is None:
            return None
        if self.region is not None and self.parameters.translation:
            # All of the image is wanted, and the pair is that of the region.
            dense, alignment = transform.parts
            pair = self._pair(alignment, whole=True)
            displacement = dense.to_field(pair.grid).voxel_displacement().to(self.device)
            displacement = displacement if pair.grid.ndim == 3 else displacement[:, 1:, 0]
        made = self.module.synthetic(pair, displacement, self.parameters, self.state, self.config, self.events)
        if made is None:
            return None
        grid = pair.level_grid(tuple(made.shape[2:]))
        data = made[0].cpu() if grid.ndim == 3 else made[0, :, None].cpu()
        return Image(data, grid.index_to_world, grid.ndim).resample(self.fixed.grid)

    def _fusion(self, transform: Transform) -> Fusion | None:
        """What a model that fuses makes of both images, on the fixed lattice."""
        if not self.info.fuses or self.state is None:
            return None
        images = (self.shown["fixed"], self.shown["moving"], transform)
        how = {"device": self.device, "memory_mb": self.memory_mb, "events": self.events}
        return self.module.fuse(*images, self.parameters, self.colours, **how)

    def _pair(self, alignment: Affine, most_mb: float = math.inf, whole: bool = False) -> Pair:
        """The images in the region, or those parts of the ``whole`` that show something."""
        return make_pair(
            self.fixed,
            self.moving,
            alignment,
            self.fixed_mask,
            self.moving_mask,
            min(self.memory_mb, most_mb),
            torch.device(self.device),
            None if whole else self.region,
        )

    def _fixed_mask_of(self, alignment: Affine) -> Image | None:
        """Where a linear transform has to fit: in the region, if there is one, and where the fixed mask allows it."""
        if self.region is None:
            return self.fixed_mask
        self.events.warn("A linear transform cannot fade: it fits the region, and takes the whole moving image along.")
        pair = self._pair(alignment, LINEAR_MB)
        return Image(pair.fixed_weight.reshape(1, *pair.grid.shape).cpu(), pair.grid.index_to_world, pair.grid.ndim)

    def _linear(self, alignment: Affine) -> tuple[Affine, Pair, None]:
        """The model's linear transform, and its refinement on the pair by mutual information."""
        with self.events.stage("model", 0.2, 0.45):
            # A proposal that makes the images less alike than they were is no use to anybody.
            choices = [alignment, self._improved(alignment, LINEAR_MB)]
            masks = {"fixed_mask": self._fixed_mask_of(alignment), "moving_mask": self.moving_mask}
            how = {**masks, "device": self.device, "seed": self.seed}
            if not self.refines:
                found = better(self.fixed, self.moving, choices, **how)
        with self.events.stage("refine", 0.45, 0.9):
            if self.refines:
                iterations = None if is_auto(self.refine) else int(self.refine)
                found = climb(self.fixed, self.moving, choices, events=self.events, iterations=iterations, **how)
        return found, self._pair(found, LINEAR_MB), None

    def _improved(self, alignment: Affine, most_mb: float = math.inf) -> Affine:
        """``alignment`` after the affine transform that the model finds for the whole images."""
        pair = self._pair(alignment, most_mb, whole=True)
        matrix = self.module.improve_affine(pair, self.parameters, self.state, self.config, self.events)
        return Affine(matrix, self.fixed.ndim).then(alignment)

    def _dense(self, alignment: Affine) -> tuple[Affine, Pair, Tensor]:
        """The model's prediction, and its refinement on the pair."""
        with self.events.stage("model", 0.2, 0.45):
            if self.align in ("centres", "moments", "rigid"):
                # The model's own affine part; after "affine" it has been found, and "none" asks to leave it out.
                with self.events.stage("affine", 0.0, 0.2):
                    alignment = self._improved(alignment)
            pair = self._pair(alignment)
            if pair.grid.spacing.min() > self.fixed.spacing.min() * 1.01:
                used, finest = pair.grid.spacing.min(), self.fixed.spacing.min()
                self.events.warn(
                    f"Working at {used:.2f} mm instead of {finest:.2f} mm, to stay within {self.memory_mb:.0f} MB."
                )
            if self.events.previews is not None:
                self.events.previews.alignment = alignment
                self.events.previews.weight = None if self.region is None else self.region.weight
                self.events.preview(pair.fixed.new_zeros(1, len(pair.shape), *pair.level_shape(8.0)), pair)
            with self.events.stage("field", 0.2, 1.0):
                displacement = self.module.predict(
                    pair, self.parameters, self.state, self.config, self.events, final=not self.refines
                )
            self.events.preview(displacement, pair)
        with self.events.stage("refine", 0.45, 0.9):
            if self.refines and not self.events.stops():
                displacement = self.module.refine(
                    pair, displacement, self.parameters, self.state, self.config, self.events, self.refine
                )
            with torch.inference_mode():
                displacement = unfold(displacement)
        return alignment, pair, displacement

    def _export(self, alignment: Affine, pair: Pair, displacement: Tensor | None) -> Registration:
        transform, dense = alignment, None
        if displacement is not None:
            field_grid = pair.grid if displacement.shape[2:] == pair.shape else pair.level_grid(displacement.shape[2:])
            dense = self._confined(displacement.cpu(), field_grid)
            transform = Composite((dense, alignment))
        self.events.progress(0.3)
        warped = self.shown["moving"].resample(self.fixed.grid, transform)
        self.events.progress(0.5)
        synthetic = self._synthetic(pair, displacement, transform)
        self.events.progress(0.7)
        report = self._report(transform, alignment, pair, dense)
        self.events.progress(0.8)
        fusion = self._fusion(transform)
        if fusion is None:
            return Registration(transform, warped, report, alignment, synthetic=synthetic)
        report["fusion"] = fusion.report
        return Registration(transform, warped, report, alignment, fused=fusion.image)

    def _confined(self, displacement: Tensor, grid: Grid) -> DisplacementField:
        """The field fading to zero around the region, or at its border."""
        if self.region is None:
            return tapered(displacement, grid)
        field, self.taper_mm = self.region.confine(displacement, grid, self.events)
        return field

    def _report(self, transform: Transform, alignment: Affine, pair: Pair, dense: DisplacementField | None) -> dict:
        return {
            "model": self.info.name,
            "weights": self.weights.describe() if self.weights else None,
            "version": __version__,
            "device": self.device,
            "align": self.align,
            "refine": str(self.refine),
            "parameters": self.parameters.to_dict(),
            "seed": self.seed,
            "region": self.region and {**self.region.size(), "taper_mm": self.taper_mm},
            **numbers(pair, self.moving, transform, alignment, dense),
            "time_s": {name: round(seconds, 3) for name, seconds in self.events.seconds.items()},
            "stopped_in": self.events.stopped_in or None,
            "warnings": list(self.events.warnings),
        }


make_callable(__name__, register)
