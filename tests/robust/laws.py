"""What laws of the batch compare."""

import dataclasses

import torch


def assert_same_bits(first, second):
    """Two records of one kind, bit for bit."""
    assert type(first) is type(second)
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(second, field.name)), field.name
