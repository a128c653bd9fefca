"""The stream and the fixed sets: what is drawn from what, and what stays apart."""

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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layouts": ("room", "cellar")}, "cellar"),
        ({"textures": ()}, "got none"),
        ({"image_size": (8, 320)}, "at least 16 x 16"),
        ({"baseline": (0.3, 0.2)}, "baseline as"),
        ({"baseline": (0.0, 0.2)}, "above 0"),
        ({"overlap": (0.95, 1.0)}, "at most 0.9"),
        ({"num_textures": 0}, "at least 1 texture"),
        ({"texture_size": 100}, "power of two"),
    ],
)
def test_bad_options_are_refused_on_one_line(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        SceneOptions(**changes)
    assert "\n" not in str(caught.value)


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="at least 1 rendered pair"):
        rendered_set(TINY, num_pairs=0, seed=0)
