import numpy as np
import pytest

from attnbook.check import expect, expect_sizes


def test_expect_says_who_what_and_what_was_wanted():
    with pytest.raises(ValueError, match=r"^k: got \(2, 3\), expected \(2, 5\)$"):
        expect(False, "k", (2, 3), (2, 5))
    assert expect(True, "k", (2, 3), (2, 5)) is None


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None, True])
def test_sizes_refuse_what_is_no_size(size):
    with pytest.raises(ValueError, match="^D: got .* expected a positive integer$"):
        expect_sizes(T=4, D=size)


def test_sizes_take_numpy_integers():
    expect_sizes(T=np.int64(3), D=7)
