"""What a conditional GAN is trained with: the two networks' losses and a pool of past fakes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..errors import ModelError

KINDS = ("bce", "lsgan")


@dataclass(frozen=True)
class GANLoss:
    """Losses of a discriminator's scores (B, 1, *patches), larger meaning more real; means over scores.

    Args:
        kind: ``bce``, binary cross-entropy of the logits, the generator's not saturating (Goodfellow et al., NIPS
            2014): ``-log s(real) - log(1 - s(fake))`` and ``-log s(fake)``, ``s`` the logistic function; ``lsgan``,
            least squares (Mao et al., ICCV 2017, eq. 9): ``(real - 1)^2 / 2 + fake^2 / 2`` and ``(fake - 1)^2 / 2``.

    Raises:
        ModelError: there is no such kind.

    >>> scores = torch.zeros(1, 1, 4, 4)
    >>> round(float(GANLoss("lsgan").discriminator(scores, scores)), 3)
    0.5
    """

    kind: Literal["bce", "lsgan"] = "bce"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"There is no adversarial loss {self.kind!r}; choose from {', '.join(KINDS)}.")

    def real(self, scores: Tensor) -> Tensor:
        """What it costs that ``scores`` do not say real."""
        if self.kind == "bce":
            return functional.softplus(-scores).mean()
        return 0.5 * (scores - 1.0).square().mean()

    def fake(self, scores: Tensor) -> Tensor:
        """What it costs that ``scores`` do not say fake."""
        if self.kind == "bce":
            return functional.softplus(scores).mean()
        return 0.5 * scores.square().mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """From its scores of real and of fake images."""
        return self.real(real) + self.fake(fake)

    def generator(self, fake: Tensor) -> Tensor:
        """From the discriminator's scores of what the generator made."""
        return self.real(fake)


class ImagePool:
    """Past fakes that the discriminator sees again, so that it does not forget them (Shrivastava et al., CVPR 2017).

    Until the pool is full, images are kept and returned; after that every other one on average changes places with a
    random one of the pool (Zhu et al., ICCV 2017). All are detached. Images of another shape than before empty the
    pool. A discriminator's pairs belong together: pool them as channels of one image. Fifty pairs of 160x192x160 voxels
    are 2 GB, where the images are.

    Args:
        size: images to keep; 0 for no pool.
        seed: of the draws.
    """

    def __init__(self, size: int = 50, seed: int = 0) -> None:
        if size < 0:
            raise ModelError(f"A pool keeps 0 images or more, not {size}.")
        self.size = size
        self.images: list[Tensor] = []
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """As many images (B, C, *shape), of now or of the past."""
        images = images.detach()
        if self.size == 0:
            return images
        if self.images and self.images[0].shape != images.shape[1:]:
            self.images = []
        return torch.stack([self._exchanged(image) for image in images])

    def _exchanged(self, image: Tensor) -> Tensor:
        if len(self.images) < self.size:
            self.images.append(image.clone())
            return image
        if float(torch.rand((), generator=self.generator)) < 0.5:
            return image
        place = int(torch.randint(self.size, (), generator=self.generator))
        past, self.images[place] = self.images[place], image.clone()
        return past.to(image)

    def state_dict(self) -> dict[str, Any]:
        """Tensors from which :meth:`load_state_dict` goes on as if never stopped."""
        return {"images": list(self.images), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ``ModelError`` if the stored pool is larger than this one."""
        if len(state["images"]) > self.size:
            raise ModelError(f"The stored pool has {len(state['images'])} images, this one room for {self.size}.")
        self.images = list(state["images"])
        # A checkpoint may have been read to another device; the draws are made on the CPU.
        self.generator.set_state(state["generator"].cpu())
