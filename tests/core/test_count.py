"""The one place that rounds: exact in the decimal that the user wrote."""

from decimal import ROUND_HALF_UP, Decimal

from hypothesis import given
from hypothesis import strategies as st

from secateur.core import count, kept_count

decimals = st.decimals(0, 1, places=4)
sizes = st.integers(0, 10**9)


@given(decimals, sizes)
def test_the_count_is_the_decimal_product_rounded_half_up(share, of):
    assert count(float(share), of) == int((share * of).quantize(Decimal(1), rounding=ROUND_HALF_UP))


@given(st.floats(0, 1), sizes)
def test_kept_and_removed_add_up_to_all(share, of):
    assert kept_count(share, of) + count(share, of) == of


@given(st.floats(0, 1), sizes)
def test_a_count_is_never_negative_and_never_above_the_number_of_units(share, of):
    assert 0 <= count(share, of) <= of


def test_a_half_in_decimal_is_rounded_up_although_its_binary_float_lies_below():
    assert 0.145 * 100 < 14.5
    assert count(0.145, 100) == 15


def test_the_removed_count_is_the_one_that_is_rounded_up():
    assert (count(0.5, 3), kept_count(0.5, 3)) == (2, 1)
