"""AVSM: networks for affine and vector momentum-parameterized stationary velocity field registration.

Shen, Han, Xu, Niethammer, "Networks for Joint Affine and Non-parametric Image Registration", CVPR 2019,
arXiv 1903.08811. A multi-step affine network, then, once or more, a momentum network whose momentum is smoothed to a
velocity that moves the map on. Images are read once, from the original, by the final map of each step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..losses.mklncc import MultiKernelLNCC
from ..losses.ncc import NCC
from ..losses.regularity import RegularityWeight, affine_regularity
from ..losses.symmetry_affine import affine_symmetry
from ..losses.symmetry_map import map_symmetry
from ..spatial import reduce, resize
from .avsm_affine import AffineNet, MultiStepAffine
from .avsm_momentum import MomentumNet, half_shape
from .blocks import same_pair
from .line_search import LEAST, best_lengths
from .maps import affine_map, invert_affine, warp_by_map
from .settings import NetworkSettings
from .smoothing import PAPER_SIGMAS
from .vsvf import VSVF


@dataclass(frozen=True)
class AVSMConfig(NetworkSettings):
    """All that says how an :class:`AVSM` is built; plain values, so that it can be stored beside the weights.

    ``image_shape`` is the grid it works on, 2 or 3 sizes; ``coarse_shape`` one on which to take as many momentum steps
    before, None for none; ``affine_shape`` a coarser one that the affine network sees, None for the same;
    ``extents`` see :class:`~regnet.networks.vsvf.VSVF`;
    ``sigma_weights`` of the Gaussians, None for weights proportional to their widths, as published.
    """

    network = "AVSM"

    image_shape: tuple[int, ...] = (80, 192, 192)
    coarse_shape: tuple[int, ...] | None = None
    affine_steps: int = 7
    affine_compose: str = "paper"
    affine_adaptive: bool = False
    affine_shape: tuple[int, ...] | None = None
    affine_channels: int = 4
    affine_last_stride: int = 2
    momentum_steps: int = 2
    momentum_clamp: float | None = None
    momentum_width: int = 16
    momentum_scale: float = 1.0
    momentum_guided: bool = False
    time_steps: int = 10
    sigmas: tuple[float, ...] = PAPER_SIGMAS
    sigma_weights: tuple[float, ...] | None = None
    extents: tuple[float, ...] | None = None
    smoother_pad: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum_steps < 1 or self.time_steps < 1:
            raise ModelError(
                f"AVSM takes at least one momentum step and one time step, not {self.momentum_steps} and "
                f"{self.time_steps}."
            )

    @property
    def dims(self) -> int:
        return len(self.image_shape)


@dataclass(frozen=True)
class AVSMWeights:
    """What the terms of the loss count, as published; similarities count 1.

    Until ``extern_epoch`` the affine stage compares with NCC, then with mk-LNCC. ``regularity`` falls with the epochs.
    """

    regularity: RegularityWeight = RegularityWeight()
    affine_symmetry: float = 1.0
    momentum: float = 10.0
    map_symmetry: float = 500.0
    extern_epoch: int = 100


class AVSM(nn.Module):
    """The whole model. A fresh one does nothing: affine identity, zero momentum.

    >>> import torch
    >>> model = AVSM(AVSMConfig(image_shape=(16, 20, 24), affine_steps=1))
    >>> moving, fixed = torch.rand(2, 1, 1, 16, 20, 24)
    >>> torch.allclose(model(moving, fixed)["warped"], moving, atol=1e-5)
    True
    """

    def __init__(self, config: AVSMConfig | None = None) -> None:
        super().__init__()
        self.settings = config = config or AVSMConfig()
        self.dims = config.dims
        net = AffineNet(
            config.affine_shape or config.image_shape,
            config.affine_adaptive,
            config.affine_channels,
            config.affine_last_stride,
        )
        self.affine = MultiStepAffine(net, config.affine_steps, config.affine_compose)
        self.momentum = MomentumNet(
            config.dims, config.momentum_clamp, config.momentum_width, config.momentum_scale, config.momentum_guided
        )
        self.vsvf = VSVF(
            config.time_steps, config.sigmas, config.sigma_weights, extents=config.extents, pad=config.smoother_pad
        )

    def config(self) -> dict[str, Any]:
        """Plain values for :meth:`from_config`."""
        return self.settings.plain()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> AVSM:
        return cls(AVSMConfig.from_dict(config))

    def forward(
        self,
        moving: Tensor,
        fixed: Tensor,
        *,
        symmetric: bool = False,
        stage: str = "dense",
        initial_affine: Tensor | None = None,
        initial_map: Tensor | None = None,
        affine_steps: int | None = None,
        momentum_steps: int | None = None,
        search: bool = False,
    ) -> dict[str, Any]:
        """Register images (B, 1, *shape) with intensities in [0, 1].

        Args:
            symmetric: also register the other way; everything returned then has batch 2 B, (moving to fixed) first.
            stage: ``"affine"`` stops after the affine network, ``"dense"`` goes on.
            initial_affine: (B, d, d + 1) in place of the affine network's; its inverse serves the other direction.
            initial_map: (B, d, *half), where the momentum steps go on from; by default the affine transform's. It has
                no inverse, so not with ``symmetric``.
            affine_steps, momentum_steps: instead of the configured ones.
            search: give each momentum the length that makes the images most alike, and end when none does. The
                networks then have directions to learn only.

        Returns:
            ``warped`` (B, 1, *shape); ``transform``, the map (B, d, *shape) in the unit cube that made it; and ``aux``:
            ``affines`` (list, one per step), ``affine``, ``affine_warped``, and for the dense stage, one per momentum
            step, ``momenta``, ``velocities``, ``maps`` (at half resolution) and ``warped_steps``; ``symmetric``.
        """
        same_pair(moving, fixed, self.dims)
        if stage not in ("affine", "dense"):
            raise ModelError(f"AVSM's stage is 'affine' or 'dense', not {stage!r}.")
        if symmetric and initial_map is not None:
            raise ModelError("AVSM goes on from an initial map in one direction only, not symmetrically.")
        if symmetric:
            moving, fixed = torch.cat([moving, fixed]), torch.cat([fixed, moving])
            if initial_affine is not None:
                initial_affine = torch.cat([initial_affine, invert_affine(initial_affine)])
        shape = tuple(fixed.shape[2:])
        affines = [initial_affine] if initial_affine is not None else self._affines(moving, fixed, affine_steps)
        transform = affine_map(affines[-1], shape)
        warped = warp_by_map(moving, transform)
        aux = {"affines": affines, "affine": affines[-1], "affine_warped": warped, "symmetric": symmetric}
        aux |= {"momenta": [], "velocities": [], "maps": [], "warped_steps": []}
        half = initial_map
        if half is None:
            half = affine_map(affines[-1], half_shape(shape))
        else:
            transform = resize(half, shape)
            warped = warp_by_map(moving, transform)
        for _ in range((momentum_steps or self.settings.momentum_steps) if stage == "dense" else 0):
            momentum = self.momentum(warped, fixed)
            if search:
                lengths = best_lengths(self.vsvf, momentum, half, moving, fixed)
                if momentum.requires_grad:
                    lengths = lengths.clamp(min=LEAST)  # a momentum of no length would learn nothing
                elif not lengths.any():
                    break
                momentum = momentum * lengths
            half, velocity = self.vsvf(momentum, half)
            transform = resize(half, shape)
            warped = warp_by_map(moving, transform)
            for name, value in (("momenta", momentum), ("velocities", velocity), ("maps", half)):
                aux[name].append(value)
            aux["warped_steps"].append(warped)
        return {"warped": warped, "transform": transform, "aux": aux}

    def _affines(self, moving: Tensor, fixed: Tensor, steps: int | None) -> list[Tensor]:
        """Those of all steps, found on the affine network's grid: in [-1, 1] they hold for any."""
        shape = self.settings.affine_shape
        if shape is not None:
            moving, fixed = reduce(moving, shape), reduce(fixed, shape)
        return self.affine(moving, fixed, steps)

    def losses(
        self,
        output: dict[str, Any],
        moving: Tensor,
        fixed: Tensor,
        *,
        epoch: float = 0,
        weights: AVSMWeights | None = None,
        similarity: Any = None,
    ) -> dict[str, Tensor]:
        """The weighted terms of the training loss and their ``total``, for what :meth:`forward` returned.

        Affine stage: ``similarity``, ``regularity`` and, if symmetric, ``symmetry``. Dense stage: ``similarity``,
        ``momentum`` and, if symmetric, ``symmetry``, each summed over the momentum steps.
        """
        weights, aux = weights or AVSMWeights(), output["aux"]
        target = torch.cat([fixed, moving]) if aux["symmetric"] else fixed
        terms = self._dense_losses if aux["momenta"] else self._affine_losses
        if similarity is None:
            similarity = NCC() if epoch < weights.extern_epoch and not aux["momenta"] else MultiKernelLNCC()
        found = terms(aux, target, similarity, weights, epoch)
        return {**found, "total": torch.stack(list(found.values())).sum()}

    def _affine_losses(
        self, aux: dict[str, Any], target: Tensor, similarity: Any, weights: AVSMWeights, epoch: float
    ) -> dict[str, Tensor]:
        affine = aux["affine"]
        directions = affine.chunk(2) if aux["symmetric"] else [affine]
        regularity = torch.stack([affine_regularity(part) for part in directions]).sum()
        found = {
            "similarity": similarity(target, aux["affine_warped"]),
            "regularity": weights.regularity(epoch) * regularity,
        }
        if aux["symmetric"]:
            found["symmetry"] = weights.affine_symmetry * affine_symmetry(*directions)
        return found

    def _dense_losses(
        self, aux: dict[str, Any], target: Tensor, similarity: Any, weights: AVSMWeights, epoch: float
    ) -> dict[str, Tensor]:
        energies = [self.vsvf.energy(m, v) for m, v in zip(aux["momenta"], aux["velocities"], strict=True)]
        found = {
            "similarity": torch.stack([similarity(target, warped) for warped in aux["warped_steps"]]).sum(),
            "momentum": weights.momentum * torch.stack(energies).sum(),
        }
        if aux["symmetric"]:
            closed = torch.stack([map_symmetry(*where.chunk(2)) for where in aux["maps"]]).sum()
            found["symmetry"] = weights.map_symmetry * closed
        return found

    def inverse(self, output: dict[str, Any], method: str = "flow") -> Tensor:
        """The map (B, d, *shape) that undoes ``output["transform"]``: it warps the fixed image to the moving one.

        The inverse affine transform, followed along the velocities of the steps in their order.
        """
        aux, shape = output["aux"], tuple(output["transform"].shape[2:])
        undone = invert_affine(aux["affine"])
        if not aux["velocities"]:
            return affine_map(undone, shape)
        where = affine_map(undone, half_shape(shape))
        for velocity in aux["velocities"]:
            where = self.vsvf.forward_map(velocity, where, method)
        return resize(where, shape)
