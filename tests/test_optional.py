"""Packages that only some commands need."""

import pytest

from rfp.optional import require
from rfp.records import InputError


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    with pytest.raises(InputError, match=r'no_such_module.*pip install "rfp\[colmap\]"'):
        require("no_such_module", extra="colmap")
