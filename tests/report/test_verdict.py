"""Verdicts in tables and cards."""

import pytest

from secateur.report.verdict import in_a_line, in_brief


@pytest.mark.parametrize(
    ("verdicts", "brief"),
    [
        ([], "not measured"),
        (["holds"], "holds"),
        (["undecided", "undecided"], "undecided"),
        (["holds", "does not hold", "holds"], "2 holds, 1 does not hold"),
    ],
)
def test_several_verdicts_in_brief(verdicts, brief):
    assert in_brief([{"verdict": v} for v in verdicts]) == brief


def claim(**changes):
    expect = {"kind": "lower", "metric": "perplexity", "by": 0.05, "relative": True}
    whole = {
        "verdict": "does not hold",
        "claim": "It is better.",
        "against": "wanda",
        "expect": expect,
        "mean": -0.012,
        "interval": [-0.02, -0.004],
        "seeds": 5,
        "date": "2026-11-20T10:00:00",
        "stale": False,
        "differs": "a smaller model",
        "finding": "",
    }
    return whole | changes


def test_a_claim_that_fails_says_so_first_and_shows_its_figures():
    line = in_a_line(claim())
    assert line.startswith("**Does not hold:** It is better.")
    assert "advantage in perplexity -1.2 % on average, 95 % interval -2.0 % to -0.4 %" in line
    assert line.endswith("a smaller model.")


def test_a_result_of_other_code_says_so():
    assert "The code has changed since" in in_a_line(claim(stale=True))
