"""Figures to files, without pyplot: no global state, no window, no display needed."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rfp.records import InputError

DPI = 160


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write the figure; the suffix says how: .png, .jpg, .pdf, .svg.

    Raises:
        InputError: a suffix that matplotlib does not write, or a place that cannot be written to.
    """
    path = Path(path)
    suffix = path.suffix.lstrip(".").lower()
    if suffix not in FigureCanvasAgg.get_supported_filetypes():
        raise InputError(f"{path}: expected a file name that ends in .png, .jpg, .pdf or .svg, got {path.suffix!r}")
    FigureCanvasAgg(figure)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=DPI)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None
