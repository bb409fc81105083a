"""Factors of damped inverses: exact where there are any, and never anything that is not finite."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.core import NumericsError
from secateur.core.spd import damped_factor

STRANGE = st.sampled_from([0.0, 1.0, -3.0, 1e19, -1e30, 3e38, float("inf"), float("-inf"), float("nan")])


@given(st.integers(1, 7), st.integers(0, 99), st.floats(1e-3, 1.0))
def test_it_is_the_upper_factor_of_the_damped_inverse(n, seed, damping):
    x = torch.randn(20, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    H = x.T @ x / len(x)
    before = H.clone()
    U, used = damped_factor(H, damping)
    assert torch.equal(H, before) and used == damping
    damped = H + used * H.diagonal().mean() * torch.eye(n, dtype=torch.float64)
    assert torch.equal(U, U.triu())
    torch.testing.assert_close(U.T @ U @ damped, torch.eye(n, dtype=torch.float64), rtol=1e-6, atol=1e-8)


@given(st.data(), st.integers(1, 6), st.sampled_from([torch.float32, torch.float64]))
def test_whatever_it_is_given_it_gives_a_finite_factor_or_says_that_there_is_none(data, n, dtype):
    x = torch.randn(20, n, generator=torch.Generator().manual_seed(0), dtype=dtype)
    H = x.T @ x
    for _ in range(data.draw(st.integers(1, 3))):
        i, j = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
        H[i, j] = H[j, i] = data.draw(STRANGE)
    try:
        U, _ = damped_factor(H, 0.01, "w")
    except NumericsError as error:
        assert "no inverse" in str(error)
    else:
        assert U.isfinite().all()


def test_a_singular_matrix_is_damped_more_and_says_how_much():
    H = torch.ones(4, 4)
    H[0, 0] = 0.97  # not even positive with the first damping
    U, used = damped_factor(H, 1e-3)
    assert used > 1e-3 and U.isfinite().all()
    with pytest.raises(NumericsError, match="no inverse"):
        damped_factor(-torch.eye(3), 0.01)
