"""The quadratic function of which units go, against the change of a loss that is quadratic."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.solvers.refining.loss_change import empirical_fisher, quadratic


@given(st.integers(0, 2**16), st.integers(1, 8), st.floats(0, 2), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_it_is_the_change_of_a_quadratic_loss_for_every_start_and_end(seed, n, factor, ridge):
    g = torch.Generator().manual_seed(seed)
    A, slope, w0 = (torch.randn(*s, generator=g, dtype=torch.float64) for s in ((n, n), (n,), (n,)))
    H, now, then = A @ A.T, torch.rand(n, generator=g) < 0.5, torch.rand(n, generator=g) < 0.5
    w, new = w0 * ~now, w0 * ~then
    gradient = slope + H @ w  # of slope.w + w H w / 2, where w is now
    Q, const = quadratic(H, gradient, w0, w - w0, factor, ridge)
    x, d = then.double(), new - w
    torch.testing.assert_close(x @ Q @ x + const, factor * gradient @ d + d @ H @ d / 2 + ridge * d @ d)
    if factor == 1 and ridge == 0:
        change = slope @ new + new @ H @ new / 2 - slope @ w - w @ H @ w / 2
        torch.testing.assert_close(x @ Q @ x + const, change)


def test_staying_where_one_is_changes_nothing():
    w0, gone = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([True, False, True])
    Q, const = quadratic(torch.eye(3), torch.ones(3), w0, -w0 * gone)
    torch.testing.assert_close(gone.float() @ Q @ gone.float() + const, torch.tensor(0.0))


def test_the_fisher_is_the_mean_of_outer_products():
    G = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(empirical_fisher(G), sum(torch.outer(g, g) for g in G) / 5)
