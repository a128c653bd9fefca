"""The photographs of the learning benchmark, from packages that carry them under terms that allow weights that ship.

    mkdir packages && cd packages
    apt-get download endless-sky-high-dpi lomiri-wallpapers-16.04 sddm-theme-maldives
    pip download --no-deps scikit-image==0.26.0 scikit-learn==1.9.1
    pip download --no-deps --only-binary=:all: --python-version 3.7 scikit-image==0.15.0
    cd .. && python benchmarks/photographs.py --packages packages --output photographs

Only those that the packages themselves call public domain, CC0 or CC-BY (the photographers are named in the model card
of ``tiny`` and in the packages). Says whether they are the ones of docs/results/photographs.json.
"""

import fnmatch
import json
import re
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import tyro
from learning_identity import photographs_digest

KNOWN = Path(__file__).parents[1] / "docs" / "results" / "photographs.json"
LOMIRI = (
    "aitzgorri",
    "friends",
    "life",
    "Picture_0B",
    "Picture_1A",
    "picosdeeuropa",
    "seeding",
    "sunset",
    "umang",
    "Wine",
)
"""How the names of the photographs under CC-BY or CC0 begin."""
PUBLIC = ("NASA", "USGS", "Library")
"""First words of the holders whose pictures are in the public domain; those of unsplash say so in their licence."""
WHEELS = {
    "scikit_image-0.15.0": ("coffee.png", "astronaut.png", "rocket.jpg"),
    "scikit_image-0.26.0": ("brick.png", "grass.png", "gravel.png"),
    "scikit_learn": ("china.jpg", "flower.jpg"),
}


@dataclass(frozen=True)
class Options:
    """Options of the script."""

    packages: Path
    """Folder of the packages that the commands above download."""
    output: Path
    """Folder to write the photographs to."""


def main(options: Options) -> None:
    """Unpack, choose, write, and compare."""
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as unpacked:
        for package in options.packages.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), unpacked], check=True)
        share = Path(unpacked) / "usr" / "share"
        for source, name in [*of_the_game(share), *of_the_desktops(share)]:
            (options.output / name).write_bytes(source.read_bytes())
    for wheel, names in WHEELS.items():
        (path,) = options.packages.glob(f"{wheel}*.whl")
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if Path(member).name in names:
                    (options.output / f"sk_{Path(member).name}").write_bytes(archive.read(member))
    found, known = photographs_digest(options.output), json.loads(KNOWN.read_text())["folder"]
    print(
        f"{options.output}: {found}, "
        + ("as in the results" if found == known else f"other than in the results, {known}")
    )


def of_the_game(share: Path) -> list[tuple[Path, str]]:
    """(file, name) of the pictures that Endless Sky's copyright file puts in the public domain, by their holders."""
    text = (share / "doc" / "endless-sky-high-dpi" / "copyright").read_text()
    rules = re.findall(
        r"^Files:(.*?)\nCopyright:(.*?)\nLicense:\s*(\S+)(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE
    )
    root = share / "games" / "endless-sky" / "plugins" / "endless-sky-high-dpi" / "images"
    chosen = []
    for path in sorted(root.rglob("*.jpg")):
        plain = "images/" + str(path.relative_to(root)).replace("@2x", "")
        terms = [rule for rule in rules if any(fnmatch.fnmatch(plain, pattern) for pattern in rule[0].split())]
        if not terms or terms[-1][2] != "public-domain":
            continue
        holder, why = terms[-1][1].split()[0], terms[-1][3]
        if "unsplash" in why or holder in PUBLIC:
            name = f"endless_{'unsplash' if 'unsplash' in why else holder}_{path.name.replace('@2x', '')}"
            chosen.append((path, name))
    return chosen


def of_the_desktops(share: Path) -> list[tuple[Path, str]]:
    """(file, name) of the wallpapers under CC-BY or CC0."""
    wallpapers = [path for path in share.rglob("*.jpg") if path.name.startswith(LOMIRI) and not path.is_symlink()]
    maldives = list((share / "sddm" / "themes" / "maldives").glob("background.jpg"))
    return [(path, f"lomiri_{path.name}") for path in wallpapers] + [(path, "maldives.jpg") for path in maldives]


if __name__ == "__main__":
    main(tyro.cli(Options))
