"""Photometric augmentation on the device: kornia's operations, driven by an explicit generator."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from kornia.augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomGamma,
    RandomGaussianBlur,
    RandomGaussianNoise,
    RandomSaturation,
)
from torch import Tensor

from rfp.records import InputError, PosedPair


@dataclass(frozen=True)
class PhotometricAugmentation:
    """Changes of light, colour, focus and noise, drawn for each image by itself; positions stay as they are.

    kornia's augmentations draw from torch's global generators; here every parameter is drawn from ``generator`` and
    handed to kornia as ``params``, so that the draws repeat and no global state moves. Nothing visits the host when
    the generator lives on the device of the images.

    Example:
        >>> augment = PhotometricAugmentation(noise=0.02)
        >>> images = torch.rand(2, 3, 32, 48)
        >>> augment(images, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 32, 48])
    """

    brightness: float = 0.15
    """Largest shift of all values, up or down."""
    contrast: float = 0.25
    """Values are multiplied by U(1 - contrast, 1 + contrast)."""
    gamma: float = 0.25
    """Values are raised to U(1 - gamma, 1 + gamma)."""
    saturation: float = 0.4
    """Saturation is multiplied by U(1 - saturation, 1 + saturation)."""
    blur: float = 1.0
    """Standard deviation in pixels of the Gaussian blur that is mixed in with weight U(0, 1); 0 for none."""
    noise: float = 0.02
    """Largest standard deviation of the Gaussian noise; each image draws its own below it."""

    def __post_init__(self):
        for name in ("brightness", "contrast", "gamma", "saturation"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"expected {name} in [0, 1], got {getattr(self, name)}; 0 is off")
        for name in ("blur", "noise"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise InputError(f"expected {name} of at least 0, got {getattr(self, name)}; 0 is off")

    def __call__(self, images: Float[Tensor, "b 3 h w"], *, generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
        """The images, each changed by its own draw and clamped to [0, 1]."""
        batch = images.shape[0]

        def uniform(largest: float, middle: float = 0.0) -> Float[Tensor, " b"]:
            draw = torch.rand(batch, generator=generator, device=generator.device, dtype=images.dtype)
            return (middle + largest * (2 * draw - 1)).to(images.device, non_blocking=True)

        images = RandomBrightness()(images, params={"brightness_factor": uniform(self.brightness, 1.0)})
        images = RandomContrast()(images, params={"contrast_factor": uniform(self.contrast, 1.0)})
        gamma = uniform(self.gamma, 1.0)
        images = RandomGamma()(images, params={"gamma_factor": gamma, "gain_factor": torch.ones_like(gamma)})
        images = RandomSaturation()(images, params={"saturation_factor": uniform(self.saturation, 1.0)})
        blur_weight = uniform(0.5, 0.5)
        if self.blur > 0:
            images = torch.lerp(images, self._blurred(images), blur_weight[:, None, None, None])
        noise_level = uniform(self.noise / 2, self.noise / 2)
        noise = torch.randn(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
        noise = noise.to(images.device, non_blocking=True) * noise_level[:, None, None, None]
        return RandomGaussianNoise(p=1.0)(images, params={"gaussian_noise": noise}).clamp(0, 1)

    def _blurred(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        # One fixed sigma, given on the CPU: kornia checks that it is positive, and a sigma drawn on the device would
        # have to come to the host for that. The strength varies by the weight of the mixture instead.
        size = 2 * int(2 * self.blur + 0.5) + 1
        blur = RandomGaussianBlur(size, (self.blur, self.blur), border_type="replicate", p=1.0)
        return blur(images, params={"sigma": torch.full((images.shape[0],), self.blur)})


def photometric_augmentation(
    pair: PosedPair, *, generator: torch.Generator, augmentation: PhotometricAugmentation | None = None
) -> PosedPair:
    """The pair with each of its images changed by a draw of its own; cameras and pose are as they were."""
    augment = PhotometricAugmentation() if augmentation is None else augmentation
    image1, image2 = (augment(image[None], generator=generator)[0] for image in (pair.image1, pair.image2))
    return replace(pair, image1=image1, image2=image2)
