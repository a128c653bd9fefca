"""The matcher "lightglue" takes its weights by the network, wherever a function is given both."""

from itertools import combinations

import pytest
import torch

from rfp.evaluation.homography_evaluation import evaluate_homographies
from rfp.evaluation.localization import LocalizationOptions, evaluate_localization
from rfp.evaluation.reconstruction import MappingOptions, reconstruct
from rfp.evaluation.reconstruction_report import evaluate_reconstruction
from rfp.evaluation.true_poses import read_true_poses
from rfp.export.colmap import export_colmap
from rfp.export.detection import DetectionOptions, detect_file, match_pairs
from rfp.export.hloc import export_hloc
from rfp.export.image_folder import open_image_folder
from rfp.matching import MutualNearestNeighbours
from rfp.matching.match import MATCHERS
from rfp.records import InputError
from tests.evaluation.test_homography import Planar
from tests.networks import TinyTestNetwork
from tests.scenes import render_views, write_pairs_folder

SMALL = DetectionOptions(image_size=80, num_keypoints=40)
CPU = torch.device("cpu")


class _Disk(TinyTestNetwork):
    name = "disk"


class _ForDisk(MutualNearestNeighbours):
    """In place of LightGlue's weights for DISK; counts the pairs that it has matched."""

    pairs = 0

    def __call__(self, *features):
        _ForDisk.pairs += 1
        return super().__call__(*features)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    views = render_views(count=3, height=60, width=80)
    return write_pairs_folder(tmp_path_factory.mktemp("scene") / "corner", views, max_gap=2)


def _homographies(network, folder, output):
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0))
    evaluate_homographies(network, [Planar(image, image, torch.eye(3))], matcher="lightglue", num_keypoints=20)


def _localization(network, folder, output):
    options = LocalizationOptions(detection=SMALL, matcher="lightglue", folds=3)
    evaluate_localization(network, open_image_folder(folder), read_true_poses(folder), options=options)


def _reconstruction_report(network, folder, output):
    options = MappingOptions(detection=SMALL, matcher="lightglue")
    evaluate_reconstruction(network, open_image_folder(folder), output, options=options)


def _reconstruction(network, folder, output):
    reconstruct(
        network, open_image_folder(folder), output, options=MappingOptions(detection=SMALL, matcher="lightglue")
    )


def _colmap(network, folder, output):
    images = open_image_folder(folder)
    pairs = list(combinations(images.names, 2))
    options = {"pairs": pairs, "detection": SMALL, "device": CPU, "matcher": "lightglue"}
    export_colmap(network, images, output / "database.db", **options)


def _hloc(network, folder, output):
    images = open_image_folder(folder)
    pairs = list(combinations(images.names, 2))
    export_hloc(network, images, output / "hloc", pairs=pairs, detection=SMALL, device=CPU, matcher="lightglue")


def _match_pairs(network, folder, output):
    images = open_image_folder(folder)
    found = {name: detect_file(network, images.path(name), SMALL, device=CPU) for name in images.names}
    name = getattr(network, "name", "")
    list(
        match_pairs(
            [(images.names[0], images.names[1])], found.__getitem__, device=CPU, matcher="lightglue", network=name
        )
    )


@pytest.mark.parametrize(
    "function", [_homographies, _localization, _reconstruction_report, _reconstruction, _colmap, _hloc, _match_pairs]
)
def test_lightglue_is_found_by_the_name_of_the_network(function, folder, tmp_path, monkeypatch):
    if function in (_localization, _reconstruction_report, _reconstruction, _colmap):
        pytest.importorskip("pycolmap")
    monkeypatch.setitem(MATCHERS, "lightglue-disk", _ForDisk)
    monkeypatch.setattr(_ForDisk, "pairs", 0)
    with pytest.raises(InputError, match="expected a network that LightGlue was trained for"):
        function(TinyTestNetwork().eval(), folder, tmp_path)
    assert list(tmp_path.iterdir()) == []
    function(_Disk().eval(), folder, tmp_path)
    assert _ForDisk.pairs > 0
