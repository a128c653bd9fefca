"""The stream and the fixed sets: what is drawn from what, and what stays apart."""

import math
from dataclasses import replace

import pytest
import torch

from rfp.data.synthetic import pairs as pairs_module
from rfp.data.synthetic.held_out_layouts import HELD_OUT, HELD_OUT_LAYOUTS
from rfp.data.synthetic.layouts import TRAINING, TRAINING_LAYOUTS
from rfp.data.synthetic.options import SceneOptions
from rfp.data.synthetic.pairs import RenderedPairs, rendered_set
from rfp.data.synthetic.textures import HELD_OUT_FAMILIES, TRAINING_FAMILIES, draw_textures
from rfp.records import InputError

TINY = SceneOptions(image_size=(32, 48), num_textures=4, texture_size=16)


def test_held_out_layouts_and_textures_are_disjoint_from_those_of_training():
    training, held_out = SceneOptions(), SceneOptions.held_out()
    assert not set(training.layouts) & set(held_out.layouts)
    assert not set(training.textures) & set(held_out.textures)
    assert set(training.layouts) == set(TRAINING_LAYOUTS)
    assert set(held_out.layouts) == set(HELD_OUT_LAYOUTS)
    assert not set(TRAINING.values()) & set(HELD_OUT.values())


@pytest.mark.parametrize(
    ("options", "families"), [(SceneOptions(), TRAINING_FAMILIES), (SceneOptions.held_out(), HELD_OUT_FAMILIES)]
)
def test_a_stream_draws_the_textures_of_its_families_and_no_others(options, families, monkeypatch):
    asked = []

    def spy(count, *, size, families, generator):
        asked.append(tuple(families))
        return draw_textures(count, size=size, families=families, generator=generator)

    monkeypatch.setattr(pairs_module, "draw_textures", spy)
    RenderedPairs(replace(options, image_size=(32, 48), num_textures=4, texture_size=16)).draw(
        1, generator=torch.Generator()
    )
    assert asked == [families]


def test_only_the_layouts_asked_for_are_drawn(monkeypatch):
    drawn = []
    for name, function in {**TRAINING, **HELD_OUT}.items():
        table = TRAINING if name in TRAINING else HELD_OUT
        monkeypatch.setitem(table, name, lambda u, name=name, function=function: drawn.append(name) or function(u))
    RenderedPairs(replace(TINY, layouts=("cards", "relief"))).draw(2, generator=torch.Generator())
    assert drawn == ["cards", "relief"]


def test_the_layouts_take_turns_by_chance():
    found = {pair.scene for pair in rendered_set(TINY, num_pairs=24, seed=0)}
    assert found == set(TRAINING_LAYOUTS)


def test_pairs_of_a_stream_are_posed_pairs():
    pair = RenderedPairs(TINY).draw(2, generator=torch.Generator().manual_seed(0))[1]
    assert pair.image1.shape == pair.image2.shape == (3, 32, 48)
    assert pair.K1[2].tolist() == [0, 0, 1]
    assert pair.K1[0, 2] == 23.5
    assert pair.K1[1, 2] == 15.5
    assert (pair.t != 0).any()


def test_a_set_is_the_same_for_the_same_seed_and_begins_alike_at_any_length():
    short, long = (rendered_set(TINY, num_pairs=count, seed=3) for count in (3, 10))
    assert len(short) == 3
    assert len(long) == 10
    for one, other in zip(short, long):
        assert torch.equal(one.image1, other.image1)
        assert torch.equal(one.R, other.R)
        assert one.name == other.name


def test_names_tell_sets_apart():
    sets = [
        rendered_set(TINY, num_pairs=2, seed=0),
        rendered_set(TINY, num_pairs=2, seed=1),
        rendered_set(replace(TINY, noise=(0.0, 0.5)), num_pairs=2, seed=0),
    ]
    names = [name for some in sets for name in some.names]
    assert len(set(names)) == len(names) == 6


def test_photographs_of_the_user_are_among_the_textures():
    photographs = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    plain, with_photographs = RenderedPairs(TINY), RenderedPairs(TINY, photographs=photographs)
    cpu = torch.device("cpu")
    assert with_photographs.bank(cpu).count == TINY.num_textures + 2
    shared = plain.bank(cpu).texels
    assert torch.equal(with_photographs.bank(cpu).texels[: len(shared)], shared)
    images = [
        stream.render(1, generator=torch.Generator().manual_seed(0)).images for stream in (plain, with_photographs)
    ]
    assert not torch.equal(*images)


def test_photographs_as_bytes_are_those_in_0_to_1():
    photographs = torch.randint(0, 256, (2, 3, 40, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    as_bytes, as_floats = (RenderedPairs(TINY, photographs=some) for some in (photographs, photographs / 255))
    cpu = torch.device("cpu")
    assert torch.equal(as_bytes.bank(cpu).texels, as_floats.bank(cpu).texels)
    assert repr(as_bytes) == repr(as_floats)


def test_other_photographs_of_the_same_number_are_another_stream_and_another_set():
    photographs = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    other = photographs.clone()
    other[1, 2, 3, 4] += 1e-3 if other[1, 2, 3, 4] < 0.5 else -1e-3
    both = (photographs, other)
    assert len({repr(RenderedPairs(TINY, photographs=some)) for some in (None, *both)}) == 3
    assert repr(RenderedPairs(TINY, photographs=photographs.clone())) == repr(
        RenderedPairs(TINY, photographs=photographs)
    )
    names = [rendered_set(TINY, num_pairs=1, seed=0, photographs=some).names[0] for some in both]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("photographs", "message"),
    [
        (torch.zeros(3, 24, 24), "shape"),
        (torch.zeros(2, 1, 24, 24), "shape"),
        (torch.zeros(0, 3, 24, 24), "shape"),
        (torch.zeros(2, 3, 24, 32), "squares"),
        (torch.zeros(2, 3, 24, 24, dtype=torch.float64), "float64"),
        (torch.zeros(2, 3, 24, 24, dtype=torch.long), "int64"),
        (torch.full((2, 3, 24, 24), 255.0), "divide bytes by 255"),
        (torch.full((2, 3, 24, 24), -0.5), "in .0, 1."),
        (torch.full((2, 3, 24, 24), math.nan), "nan"),
        (torch.full((2, 3, 24, 24), math.inf), "inf"),
    ],
)
def test_photographs_that_are_none_are_refused_on_one_line(photographs, message):
    with pytest.raises(InputError, match=message) as caught:
        RenderedPairs(TINY, photographs=photographs)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        rendered_set(TINY, num_pairs=1, seed=0, photographs=photographs)


def test_one_value_that_is_not_a_number_is_found_among_good_ones():
    photographs = torch.full((2, 3, 24, 24), 0.5)
    photographs[1, 1, 7, 9] = math.nan
    with pytest.raises(InputError, match="NaN"):
        RenderedPairs(TINY, photographs=photographs)


def test_what_renders_can_be_named_from_rfp_data():
    import rfp.data

    stream, fixed = RenderedPairs(TINY), rendered_set(TINY, num_pairs=1, seed=0)
    for value in (stream, stream.render(1, generator=torch.Generator().manual_seed(0)), fixed, stream.options):
        assert getattr(rfp.data, type(value).__name__) is type(value)
        assert type(value).__name__ in rfp.data.__all__


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layouts": ("room", "cellar")}, "cellar"),
        ({"textures": ()}, "got none"),
        ({"image_size": (31, 320)}, "at least 32 x 32"),
        ({"baseline": (0.3, 0.2)}, "baseline as"),
        ({"baseline": (0.0, 0.2)}, "above 0"),
        ({"overlap": (0.95, 1.0)}, "at most 0.9"),
        ({"num_textures": 0}, "at least 1 texture"),
        ({"texture_size": 100}, "power of two"),
        ({"texture_size": 4096}, "to 2048"),
        ({"baseline": (0.3, 3.5)}, "baseline as"),
        ({"blur_px": (0.3, 0.9)}, "blur_px as .* 0.85"),
        ({"noise": (0.0, 0.6)}, "noise as"),
        ({"field_of_view_deg": (0.5, 60.0)}, "field_of_view_deg as"),
        ({"focal_ratio": 0.9}, "focal_ratio from 1"),
        ({"look_deg": 46.0}, "look_deg from 0 to 45"),
        ({"look_deg": -1.0}, "look_deg from 0 to 45"),
        ({"roll_deg": 181.0}, "roll_deg from 0 to 180"),
        ({"exposure": 3.5}, "exposure from 0 to 3"),
        ({"vignetting": 1.0}, "vignetting from 0"),
        ({"white_balance": 1.0}, "white_balance from 0"),
        ({"white_balance": -0.1}, "white_balance from 0"),
        *(
            ({name: bad}, f"expected {name}")
            for name in ("look_deg", "roll_deg", "focal_ratio", "exposure", "vignetting", "white_balance")
            for bad in (math.nan, math.inf)
        ),
        *(
            ({name: bad}, f"expected {name}")
            for name in ("baseline", "overlap", "field_of_view_deg", "blur_px", "noise")
            for bad in ((math.nan, 0.5), (0.1, math.nan), (0.1, math.inf))
        ),
    ],
)
def test_bad_options_are_refused_on_one_line(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        SceneOptions(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("image_size", (240.0, 320), "whole pixels"),
        ("image_size", (240,), "image_size as"),
        ("num_textures", 2.5, "num_textures as a whole number"),
        ("texture_size", 256.0, "texture_size as a whole number"),
        ("texture_seed", 0.5, "texture_seed as a whole number"),
        ("baseline", (0.3, 0.4, 0.5), "baseline as"),
    ],
)
def test_values_of_another_type_are_refused_where_types_are_not_checked(name, value, message):
    options = SceneOptions()
    object.__setattr__(options, name, value)  # past the type checker of the tests, which users do not have
    with pytest.raises(InputError, match=message):
        options.__post_init__()


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="at least 1 rendered pair"):
        rendered_set(TINY, num_pairs=0, seed=0)
    with pytest.raises(InputError, match="at least 1 rendered pair"):
        RenderedPairs(TINY).draw(0, generator=torch.Generator())
