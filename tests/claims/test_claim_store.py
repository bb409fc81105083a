"""Listing claims off their sources, and the results that are shipped."""

import importlib
import subprocess
import sys

import pytest

from secateur.claims.claim import get
from secateur.claims.store import fingerprint, listing, read_claims, verdicts
from secateur.claims.verdict import judge
from secateur.core import RecipeError, registry

SOURCE = '''
"""A module."""
LENGTH = 3

@claim("quill", against="wanda", expect=lower("perplexity", by=0.02), seeds=6)
def survives(seed: int, method: str):
    """It survives bursts.

    More words.
    """
    return LENGTH

@claim("quill", against="wanda", expect=higher("speed"), exact=True, differs="a " "b", finding="because")
def is_fast(seed, method):
    """It is fast."""
    return 1
'''

shipped = [entry for entry in listing() if entry.result is not None]


def test_claims_are_read_off_a_source():
    first, second = read_claims("m", SOURCE)
    assert (first.id, first.claim, first.seeds) == ("quill.survives", "It survives bursts.", 6)
    assert first.expect.kind == "lower" and first.expect.by == 0.02
    assert (second.seeds, second.differs, second.finding) == (1, "a b", "because")


def test_a_setting_that_is_computed_is_refused():
    with pytest.raises(RecipeError, match="is not a literal"):
        read_claims("m", SOURCE.replace("0.02", "LENGTH"))


def test_listing_agrees_with_what_the_decorator_registers():
    for entry in listing():
        importlib.import_module(entry.module)
        live = get(entry.id)
        assert (live.method, live.name, live.against, live.sentence, live.expect, live.seeds, live.differs) == (
            entry.method,
            entry.name,
            entry.against,
            entry.claim,
            entry.expect,
            entry.seeds,
            entry.differs,
        )
        assert live.fingerprint == entry.fingerprint


def test_listing_and_verdicts_do_not_import_torch():
    code = (
        "import sys; from secateur.claims import store as s; s.listing(); s.verdicts(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_the_fingerprint_sees_code_and_nothing_else():
    same = SOURCE.replace("More words", "Other words").replace("by=0.02", "by=0.5").replace("return 1", "return 2")
    assert fingerprint(same, "survives") == fingerprint(SOURCE, "survives")
    assert fingerprint(SOURCE.replace("LENGTH = 3", "LENGTH = 4"), "survives") != fingerprint(SOURCE, "survives")
    assert fingerprint(SOURCE.replace("return LENGTH", "return 0"), "survives") != fingerprint(SOURCE, "survives")


def test_every_claim_is_about_a_method_that_exists_and_has_enough_seeds():
    for entry in listing():
        assert entry.method in registry.entries()
        assert entry.seeds == 1 or entry.seeds >= 5, entry.id
        assert entry.module.rpartition(".")[2] == entry.method.replace("-", "_")


def test_every_method_has_a_claim():
    assert {entry.method for entry in listing()} == set(registry.entries())


@pytest.mark.parametrize("entry", shipped, ids=lambda entry: entry.id)
def test_a_shipped_verdict_follows_from_its_figures(entry):
    record = entry.result
    found = judge(record.expect, [(r["method"], r["against"]) for r in record.runs])
    assert found.verdict == record.verdict
    assert found.differences == pytest.approx(record.differences)
    assert (found.mean, found.low, found.high) == pytest.approx((record.mean, *record.interval))


@pytest.mark.parametrize("entry", shipped, ids=lambda entry: entry.id)
def test_a_shipped_result_is_of_the_claim_as_it_stands(entry):
    record = entry.result
    assert not entry.stale, "the claim or its code changed: run it again"
    assert [r["seed"] for r in record.runs] == list(range(entry.seeds))
    assert (record.id, record.claim, record.against) == (entry.id, entry.claim, entry.against)
    assert all(r["cpu_s"][side] >= 0 for r in record.runs for side in ("method", "against"))


def test_a_claim_that_does_not_hold_says_what_was_looked_for():
    silent = [e.id for e in shipped if e.result.verdict != "holds" and not e.finding]
    assert not silent


def test_verdicts_are_plain_data_by_method():
    found = verdicts()
    assert set(found) == {entry.method for entry in shipped}
    for claims in found.values():
        assert all(c["verdict"] in ("holds", "does not hold", "undecided") for c in claims)


def test_the_fingerprint_is_the_same_in_every_version_of_python():
    assert fingerprint(SOURCE, "survives") == "37ecf2ecb74b0495"
