import cv2
import numpy as np
import pytest
import torch
from kornia.geometry.transform import resize as kornia_resize

from rfp.data import InputError, read_image, resize_image

RNG_SEED = 7


def _pixels(*shape, dtype=np.uint8):
    return np.random.default_rng(RNG_SEED).integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def test_channels_come_as_red_green_blue(tmp_path):
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[..., 2] = 255
    cv2.imwrite(str(tmp_path / "red.png"), bgr)
    image = read_image(tmp_path / "red.png")
    assert image.shape == (3, 4, 6)
    assert image.dtype == torch.float32
    assert image.mean((1, 2)).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_every_stored_integer_maps_to_its_share_of_the_largest(tmp_path, dtype, largest):
    pixels = _pixels(9, 7, 3, dtype=dtype)
    cv2.imwrite(str(tmp_path / "image.png"), pixels)
    expected = torch.from_numpy(pixels[..., ::-1].astype(np.float64) / largest).permute(2, 0, 1)
    torch.testing.assert_close(read_image(tmp_path / "image.png").double(), expected, atol=1e-7, rtol=0)


def test_grey_images_have_three_equal_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), _pixels(5, 6))
    image = read_image(tmp_path / "grey.png")
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])


def test_alpha_is_dropped_and_colours_kept(tmp_path):
    pixels = _pixels(5, 6, 4)
    cv2.imwrite(str(tmp_path / "alpha.png"), pixels)
    cv2.imwrite(str(tmp_path / "opaque.png"), pixels[..., :3])
    assert torch.equal(read_image(tmp_path / "alpha.png"), read_image(tmp_path / "opaque.png"))


def test_orientation_is_ignored_unless_asked_for(tmp_path):
    encoded = cv2.imencode(".jpg", _pixels(8, 16, 3))[1].tobytes()
    tiff = b"II*\x00\x08\x00\x00\x00" + b"\x01\x00" + b"\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00" + b"\x00" * 4
    exif = b"Exif\x00\x00" + tiff  # orientation 6: stored turned by 90 degrees
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "turned.jpg").write_bytes(encoded[:2] + segment + encoded[2:])
    stored = read_image(tmp_path / "turned.jpg")
    assert stored.shape == (3, 8, 16)
    assert torch.equal(read_image(tmp_path / "turned.jpg", upright=True), stored.flip(1).transpose(1, 2))


def test_a_float_image_with_nan_is_refused(tmp_path):
    pixels = np.full((4, 5, 3), 0.5, np.float32)
    cv2.imwrite(str(tmp_path / "fine.tiff"), pixels)
    assert read_image(tmp_path / "fine.tiff").unique().tolist() == [0.5]
    pixels[1, 2, 0] = np.nan
    cv2.imwrite(str(tmp_path / "nan.tiff"), pixels)
    with pytest.raises(InputError, match=r"nan\.tiff: expected float pixels in \[0, 1\], got NaN"):
        read_image(tmp_path / "nan.tiff")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_truncated_image_is_refused_and_named(tmp_path, suffix, kept):
    data = cv2.imencode(suffix, _pixels(64, 64, 3))[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match="truncated") as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_end_marker_of_a_thumbnail_does_not_hide_a_truncation(tmp_path):
    data = cv2.imencode(".jpg", _pixels(64, 64, 3))[1].tobytes()
    thumbnail = b"\xff\xd8\xff\xd9"
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    (tmp_path / "cut.jpg").write_bytes((data[:2] + segment + data[2:])[:-2])
    with pytest.raises(InputError, match="truncated"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such image"), (b"", "empty"), (b"not an image at all", "not an image that OpenCV can read")],
)
def test_what_is_not_an_image_is_one_line_naming_the_file(tmp_path, content, expected):
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_in_place_of_an_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("size", "longer_side", "expected"),
    [((40, 60), 30, (20, 30)), ((61, 40), 122, (122, 80)), ((33, 50), 20, (13, 20))],
)
def test_the_longer_side_is_the_one_asked_for_and_the_shape_is_kept(size, longer_side, expected):
    resized, (scale_x, scale_y) = resize_image(torch.rand(3, *size), longer_side)
    assert resized.shape[-2:] == expected
    assert (scale_y, scale_x) == (expected[0] / size[0], expected[1] / size[1])


@pytest.mark.parametrize("longer_side", [24, 37, 150])
def test_scaled_intrinsics_see_the_same_point(longer_side):
    """A blob's centre, found before and after resizing, moves as (c + 0.5) s - 0.5 says."""
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    centre = torch.tensor([41.3, 27.8])
    blob = torch.exp(-((columns - centre[0]) ** 2 + (rows - centre[1]) ** 2) / (2 * 6.0**2))
    resized, scales = resize_image(blob.expand(3, -1, -1), longer_side)
    weight = resized[0].double() / resized[0].double().sum()
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in resized.shape[-2:]), indexing="ij")
    found = torch.stack([(weight * columns).sum(), (weight * rows).sum()])
    expected = (centre + 0.5) * torch.tensor(scales) - 0.5
    torch.testing.assert_close(found, expected.double(), atol=0.02, rtol=0)


def test_downscaling_does_not_alias():
    """Stripes finer than the new pixels turn to grey; without smoothing they would make a pattern."""
    stripes = (torch.arange(240) % 2).float().expand(3, 160, 240)
    resized, _ = resize_image(stripes, 80)
    assert resized[:, 5:-5, 5:-5].std() < 0.1


@pytest.mark.parametrize(
    ("size", "longer_side"),
    [((37, 50), 20), ((61, 40), 122), ((333, 512), 511), ((200, 300), 13), ((2, 400), 10), ((1, 7), 3), ((1, 1), 5)],
)
def test_resizing_is_kornias_at_the_pixels_that_stay(size, longer_side):
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(RNG_SEED))
    resized, _ = resize_image(image, longer_side)
    expected = kornia_resize(image, (resized.shape[1], resized.shape[2]), antialias=True).clamp(0, 1)
    torch.testing.assert_close(resized, expected, atol=3e-5, rtol=0)  # kornia's positions are rounded to float32


def test_resizing_gives_the_same_bits_for_any_number_of_threads():
    """Convolutions do not: an image read by a worker would differ from the same image read in the training process."""
    image = torch.rand(3, 480, 640, generator=torch.Generator().manual_seed(RNG_SEED))
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(resize_image(image, 160)[0])
    finally:
        torch.set_num_threads(1)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_no_size_leaves_the_image_alone():
    image = torch.rand(3, 20, 30)
    resized, scales = resize_image(image, None)
    assert resized is image
    assert scales == (1.0, 1.0)
