"""What scanners and preprocessing do to images: bias field, resolution, noise, gamma, lesions, crops, stripping.

Functions of images (B, 1, *shape); strengths are (B,) tensors on the CPU, one per sample, 0 (or 1 for a thickness)
leaving a sample as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..spatial import box
from .draws import Draws

LEAST_SIGMA = 0.05
SAMPLES = 20_000
"""Voxels of an image from which percentiles are taken."""
BIAS_SPACING = 0.4
"""Distance between the knots of a bias field, as a fraction of the image's longest axis."""
LESION_SPACING = 0.12
"""The same of the noise that lesions are cut from."""
STRIP_RADIUS = 2


@dataclass(frozen=True)
class ArtefactSettings:
    """Ranges of what :func:`scan` draws.

    Attributes:
        blur: standard deviation of the blur in voxels, least and greatest.
        thick_share, thickness: how often one axis has coarser samples, and how far apart they are, in voxels.
        bias: greatest standard deviation of the logarithm of the bias field.
        noise: greatest standard deviation of the noise; intensities are about 0 to 1.
        black, white: the ends of the window that a display shows, each from least to greatest, as fractions of the
            image's own white: what lies beyond cannot be told apart any more.
        gamma: greatest logarithm of the exponent, either sign.
        crop_share, crop: how often the field of view ends early, and the most that is cut from an end of an axis, as
            a fraction.
        lesion_share: how often there are lesions.
    """

    blur: tuple[float, float] = (0.4, 1.0)
    thick_share: float = 0.2
    thickness: tuple[float, float] = (1.5, 4.0)
    bias: float = 0.3
    noise: float = 0.05
    black: tuple[float, float] = (0.0, 0.0)
    white: tuple[float, float] = (1.0, 1.0)
    gamma: float = 0.4
    crop_share: float = 0.1
    crop: float = 0.25
    lesion_share: float = 0.15

    def __post_init__(self) -> None:
        if not (self.black[0] >= 0 and self.black[1] < self.white[0] and self.white[1] <= 1):
            raise InputError(
                f"What is black, {list(self.black)}, must be darker than what is white, {list(self.white)}; give two "
                "ranges in [0, 1] that do not meet."
            )


def scan(image: Tensor, inside: Tensor, keep: Tensor | None, settings: ArtefactSettings, draws: Draws) -> Tensor:
    """An ideal image (B, 1, *shape) as a scanner and the first processing would give it, in [0, 1].

    Lesions, blur and slice thickness, bias field, noise, stripping, scaling to percentiles, gamma, field of view.

    Args:
        inside: (B, 1, *shape) bool, where lesions may lie.
        keep: (B, 1, *shape) bool, what stripping leaves; None strips nothing.
    """
    d = image.ndim - 2
    lesion = draws.chance(settings.lesion_share)
    image = lesions(image, inside, lesion, LESION_SPACING * max(image.shape[2:]), draws)
    image = acquire(image, keep, settings, draws)
    return field_of_view(image, *_crop(draws, d, settings))


def acquire(image: Tensor, keep: Tensor | None, settings: ArtefactSettings, draws: Draws) -> Tensor:
    """The part of :func:`scan` that leaves anatomy and field of view as they are: from blur to gamma."""
    d = image.ndim - 2
    axis = draws.whole(0, d - 1, 1) == torch.arange(d)
    thick = (draws.chance(settings.thick_share)[:, None] & axis) * (draws.uniform(*settings.thickness, 1) - 1) + 1
    sigma = draws.uniform(*settings.blur, 1).expand(-1, d)
    image = resolution(image, sigma, thick, draws.uniform(0.0, 1.0, d) * thick)
    image = bias_field(image, draws.uniform(0.0, settings.bias), draws)
    image = noise(image, draws.uniform(0.0, settings.noise), draws).abs_()
    image = normalise(image if keep is None else image * keep)
    if settings.black[1] > 0 or settings.white[0] < 1:
        image = window(image, draws.uniform(*settings.black), draws.uniform(*settings.white))
    return gamma(image, draws.uniform(-settings.gamma, settings.gamma))


def _crop(draws: Draws, d: int, settings: ArtefactSettings) -> tuple[Tensor, Tensor]:
    """First and last fraction seen of each axis, (B, d); a crop cuts one end of every other axis or so."""
    cut = draws.chance(settings.crop_share)[:, None, None] & (draws.uniform(0.0, 1.0, 2, d) < 0.3)
    cut = cut * draws.uniform(0.0, settings.crop, 2, d)
    return cut[:, 0], 1 - cut[:, 1]


def resolution(image: Tensor, sigma: Tensor, thickness: Tensor, phase: Tensor) -> Tensor:
    """Gaussian blur, then sampling at every ``thickness``-th voxel, then linear interpolation back.

    One matrix per axis and sample does all of it.

    Args:
        sigma: of the blur in voxels, (B, d); what sampling asks for against aliasing is added to it.
        thickness: distance between samples in voxels, (B, d), at least 1.
        phase: place of the first sample in [0, thickness), (B, d); of no effect where the thickness is 1.
    """
    for axis in range(image.ndim - 2):
        arguments = (value[:, axis, None].to(image.device) for value in (sigma, thickness, phase))
        image = _along(image, _resolution_matrix(image.shape[axis + 2], *arguments), axis)
    return image


def _resolution_matrix(n: int, sigma: Tensor, thickness: Tensor, phase: Tensor) -> Tensor:
    """(B, n, n); all arguments (B, 1)."""
    index = torch.arange(n, device=sigma.device, dtype=torch.float32)
    phase = torch.where(thickness > 1, phase, 0.0)
    number = (index - phase) / thickness
    low = number.floor()
    fraction = (number - low)[..., None]
    variance = (sigma.square() + 0.18 * (thickness.square() - 1)).clamp(min=LEAST_SIGMA**2)[..., None]

    def taken(number: Tensor) -> Tensor:
        """Rows that read the blurred line at the samples of that number."""
        position = (number * thickness + phase).clamp(0, n - 1)[..., None]
        return torch.softmax((position - index).square() * (-0.5 / variance), dim=-1)

    return torch.lerp(taken(low), taken(low + 1), fraction)


def _along(image: Tensor, matrices: Tensor, axis: int) -> Tensor:
    """Every line of sample b along spatial ``axis`` multiplied by ``matrices[b]``, (B, n, n)."""
    shape, n = image.shape, image.shape[axis + 2]
    if axis == image.ndim - 3:
        return torch.bmm(image.reshape(shape[0], -1, n), matrices.transpose(1, 2)).view(shape)
    after = image.stride(axis + 2)
    lines = image.contiguous().view(shape[0], -1, n, after)
    return torch.matmul(matrices[:, None], lines).view(shape)


def antialiased(image: Tensor, zoom: Tensor, shape: Sequence[int]) -> Tensor:
    """Smoothed for being read at every ``zoom``-th voxel, (B, d), to fill a grid of ``shape``."""
    variance = 0.18 * (zoom.square() - 1).clamp(min=0)
    if any(n > 2 * m for n, m in zip(image.shape[2:], shape, strict=True)):
        return resolution(image, variance.sqrt(), torch.ones_like(zoom), torch.zeros_like(zoom))
    for axis in range(image.ndim - 2):
        # So little smoothing takes three taps of that variance, a quarter of a dense product's time.
        n, position = image.shape[axis + 2], axis + 2
        share = variance[:, axis].clamp(max=0.5).view(-1, *(1,) * (image.ndim - 1))
        result = image * (1 - share)
        for here, there, count in ((1, 0, n - 1), (0, 1, n - 1), (0, 0, 1), (n - 1, n - 1, 1)):
            result.narrow(position, here, count).addcmul_(image.narrow(position, there, count), 0.5 * share)
        image = result
    return image


def bias_field(image: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Multiply by exp(``strength`` * smooth noise of variance 1)."""
    field = draws.smooth_noise(image.shape[2:], BIAS_SPACING * max(image.shape[2:]))
    return image * (field * draws.put(strength, image.ndim - 2)).exp_()


def noise(image: Tensor, strength: Tensor, draws: Draws) -> Tensor:
    """Add white noise of standard deviation ``strength``."""
    return image + draws.white_noise(image.shape[2:]).mul_(draws.put(strength, image.ndim - 2))


def window(image: Tensor, black: Tensor, white: Tensor) -> Tensor:
    """What a display shows of an image: ``black`` and below as 0, ``white`` and above as 1."""
    low, high = (end.to(image.device).view(-1, *(1,) * (image.ndim - 1)) for end in (black, white))
    return ((image - low) / (high - low)).clamp_(0.0, 1.0)


def gamma(image: Tensor, strength: Tensor) -> Tensor:
    """An image in [0, 1] to the power of exp(``strength``)."""
    exponent = strength.exp().to(image.device).view(-1, *(1,) * (image.ndim - 1))
    # Quicker than a power on a CPU, as long as nothing underflows.
    return image.clamp(min=1e-8).log_().mul_(exponent).exp_()


def normalise(image: Tensor, low: float = 0.001, high: float = 0.999) -> Tensor:
    """Scale each sample so that these quantiles become 0 and 1, and clamp: as the pipeline does with real images.

    A sample without contrast becomes 0.
    """
    flat = image.flatten(1)
    some = flat[:, :: max(1, flat.shape[1] // SAMPLES)]
    last = some.shape[1] - 1
    bottom, top = (
        some.kthvalue(round(part * last) + 1, dim=1).values.view(-1, *(1,) * (image.ndim - 1)) for part in (low, high)
    )
    return ((image - bottom) * (1.0 / (top - bottom).clamp(min=1e-6))).clamp_(0.0, 1.0)


def field_of_view(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Set to 0 what lies beyond the fractions ``low`` and ``high`` (B, d) of each axis: (0, 1) keeps all."""
    for axis in range(image.ndim - 2):
        n = image.shape[axis + 2]
        place = torch.linspace(0, 1, n, device=image.device)
        seen = (place >= low[:, axis, None].to(image.device)) & (place <= high[:, axis, None].to(image.device))
        image = image * seen.view(-1, 1, *(n if other == axis else 1 for other in range(image.ndim - 2)))
    return image


def lesions(image: Tensor, inside: Tensor, present: Tensor, spacing: float, draws: Draws) -> Tensor:
    """Blend smooth blobs of one random intensity per sample into ``image`` (B, 1, *shape) in [0, 1].

    Args:
        inside: (B, 1, *shape) bool, where lesions may lie.
        present: (B,) bool, which samples get any.
        spacing: how large they are, about, in voxels.
    """
    dims = image.ndim - 2
    threshold, intensity = draws.uniform(1.2, 2.4), draws.uniform(0.0, 1.0)
    field = draws.smooth_noise(image.shape[2:], spacing)
    if not bool(present.any()):
        return image
    amount = ((field - draws.put(threshold, dims)) * 4.0).clamp_(0.0, 1.0) * inside
    amount = amount * draws.put(present.float(), dims)
    return torch.lerp(image, draws.put(intensity, dims).expand_as(image), amount)


def strip_mask(brain: Tensor, looseness: Tensor, radius: int) -> Tensor:
    """A brain mask as stripping tools make it: the sulci closed, the border moved outwards by a random bit.

    Args:
        brain: (B, 1, *shape) bool.
        looseness: (B,) in [0, 1]; 0 keeps the border about where it is, 1 moves it by about half of ``radius``, voxels.
    """
    share = box(brain.float(), radius)
    level = 0.5 - 0.35 * looseness.to(brain.device)
    return (share > level.view(-1, *(1,) * (brain.ndim - 1))) | brain
