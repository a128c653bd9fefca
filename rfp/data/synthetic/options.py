"""What is rendered: sizes, layouts, textures, and the ranges that cameras and sensors are drawn from."""

from dataclasses import dataclass, replace

from rfp.data.synthetic.held_out_layouts import HELD_OUT_LAYOUTS
from rfp.data.synthetic.layouts import TRAINING_LAYOUTS
from rfp.data.synthetic.textures import FAMILIES, HELD_OUT_FAMILIES, TRAINING_FAMILIES
from rfp.records import InputError

Range = tuple[float, float]

SMALLEST_IMAGE = 32
"""Pixels a side: what the trainer accepts."""
_RANGES = {
    "baseline": (0, 3, (0.15, 0.65)),
    "overlap": (0, 1, (0.2, 0.85)),
    "field_of_view_deg": (1, 150, (50, 75)),
    "blur_px": (0, 0.85, (0.3, 0.85)),  # a kernel of three taps cannot be wider
    "noise": (0, 0.5, (0.005, 0.03)),
}
"""Limits of the ranges, and a usual one for the message."""
_LARGEST = {
    "look_deg": (0, 45, 12),
    "roll_deg": (0, 180, 6),
    "focal_ratio": (1, 10, 1.15),
    "exposure": (0, 3, 0.7),
    "white_balance": (0, 0.99, 0.08),
    "vignetting": (0, 0.99, 0.35),
}
"""Limits of the numbers."""


@dataclass(frozen=True)
class SceneOptions:
    """Rendered scenes. The defaults are the medium range of viewpoints; ``easy()`` and ``hard()`` lie beside it."""

    image_size: tuple[int, int] = (240, 320)
    """Height and width in pixels."""
    layouts: tuple[str, ...] = TRAINING_LAYOUTS
    """Kinds of scene, drawn with equal chance."""
    textures: tuple[str, ...] = TRAINING_FAMILIES
    """Families of procedural textures; the stream's bank holds them in equal numbers."""
    num_textures: int = 64
    """Textures in the bank of a stream: drawn once, shared by all its scenes, each surface with a crop, scale,
    direction, tint and mixture of its own."""
    texture_size: int = 256
    """Texels a side, a power of two."""
    texture_seed: int = 0
    """Of the bank."""
    field_of_view_deg: Range = (50.0, 75.0)
    """Horizontal, of the first camera."""
    focal_ratio: float = 1.15
    """The second camera's focal length is the first's times at most this, or divided by it."""
    baseline: Range = (0.15, 0.65)
    """Distance between the cameras as a share of the median depth of the first view."""
    look_deg: float = 12.0
    """The second camera looks at the middle of the first view, off by at most this angle across and half of it up."""
    roll_deg: float = 6.0
    """Largest difference of roll between the cameras."""
    overlap: Range = (0.2, 0.85)
    """Share of each view (the smaller of the two) that the other one sees."""
    exposure: float = 0.7
    """Largest change of each image's brightness, in stops."""
    white_balance: float = 0.08
    """Largest change of the red and blue gains of each image."""
    vignetting: float = 0.35
    """Largest loss of light in the corners."""
    blur_px: Range = (0.3, 0.85)
    """Standard deviation of each image's point spread."""
    noise: Range = (0.005, 0.03)
    """Standard deviation of each image's noise, of values in [0, 1]."""

    def __post_init__(self) -> None:
        _check_names("layouts", self.layouts, TRAINING_LAYOUTS + HELD_OUT_LAYOUTS)
        _check_names("textures", self.textures, FAMILIES)
        _check_numbers(self)

    @classmethod
    def easy(cls, **changes) -> "SceneOptions":
        """Small baselines and much overlap: an untrained network should pass here."""
        easy = cls(baseline=(0.1, 0.25), look_deg=4.0, roll_deg=3.0, focal_ratio=1.05, overlap=(0.55, 0.95))
        return replace(easy, exposure=0.3, blur_px=(0.3, 0.7), noise=(0.003, 0.02), **changes)

    @classmethod
    def medium(cls, **changes) -> "SceneOptions":
        """The defaults."""
        return cls(**changes)

    @classmethod
    def hard(cls, **changes) -> "SceneOptions":
        """Wide baselines, roll, changes of scale and of exposure."""
        hard = cls(baseline=(0.35, 0.9), look_deg=14.0, roll_deg=10.0, focal_ratio=1.4, overlap=(0.12, 0.7))
        return replace(hard, exposure=1.0, noise=(0.01, 0.04), blur_px=(0.4, 0.85), **changes)

    @classmethod
    def held_out(cls, **changes) -> "SceneOptions":
        """Layouts and textures that the others do not draw, over the medium range of viewpoints."""
        return replace(cls().on_held_out_kinds(), **changes)

    def on_held_out_kinds(self) -> "SceneOptions":
        """The same ranges over the held-out layouts and textures, the bank being another."""
        seed = self.texture_seed + 1
        return replace(self, layouts=HELD_OUT_LAYOUTS, textures=HELD_OUT_FAMILIES, texture_seed=seed)


def _check_names(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(f"expected {what} out of {', '.join(known)}; got {', '.join(unknown) or 'none'}")


def _check_numbers(options: SceneOptions) -> None:
    size = options.image_size
    if len(size) != 2 or not all(isinstance(side, int) for side in size) or min(size) < SMALLEST_IMAGE:
        wanted = f"(height, width) in whole pixels, at least {SMALLEST_IMAGE} x {SMALLEST_IMAGE}"
        raise InputError(f"expected image_size as {wanted}, got {size}; try (240, 320)")
    for name, usual in (("num_textures", 64), ("texture_size", 256), ("texture_seed", 0)):
        if not isinstance(getattr(options, name), int):
            raise InputError(f"expected {name} as a whole number, got {getattr(options, name)!r}; try {usual}")
    if options.num_textures < 1:
        raise InputError(f"expected at least 1 texture, got {options.num_textures}; try 64")
    size = options.texture_size
    if not 16 <= size <= 2048 or size & (size - 1):
        raise InputError(f"expected a texture_size that is a power of two from 16 to 2048, got {size}; try 256")
    for name, (smallest, largest, usual) in _RANGES.items():
        value = getattr(options, name)
        if len(value) != 2 or not smallest <= value[0] <= value[1] <= largest:
            wanted = f"(low, high) with {smallest:g} <= low <= high <= {largest:g}"
            raise InputError(f"expected {name} as {wanted}, got {value}; try {usual}")
    if options.baseline[0] == 0:
        raise InputError(f"expected baselines above 0, got {options.baseline}; without one there is no direction of t")
    if options.overlap[0] > 0.9:
        raise InputError(f"expected a smallest overlap of at most 0.9, got {options.overlap}; try (0.2, 0.85)")
    for name, (smallest, largest, usual) in _LARGEST.items():
        value = getattr(options, name)
        if not smallest <= value <= largest:
            raise InputError(f"expected {name} from {smallest:g} to {largest:g}, got {value}; try {usual}")
