"""The page of a pruning space: self-contained, honest about its test, and safe against what names hold."""

import json
import re

from secateur.engine.spaces import PruningSpace, Sample
from secateur.report import write_space
from secateur.report.space import plots, said


def space(errors=(0.5, 0.4, 0.3, 0.4, 0.5, 0.6), name="conv"):
    samples = tuple(Sample(i, {name: 3 + i}, 100.0 * (i + 1), 10.0, 10.0 * (i + 1), e) for i, e in enumerate(errors))
    return PruningSpace(samples, {"cost": "macs", "share": 0.5, "task": "t"}, {"ratio": 20.0, "error": 0.1})


def test_the_page_asks_no_host_and_holds_its_data(tmp_path):
    page = write_space(space(), tmp_path / "deep" / "page.html").read_text()
    assert not re.findall(r"""<(?:script|img|link)\b[^>]*?(?:src|href)=["'](?:\w+:)?//""", page)
    held = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert held["errors"] == [0.5, 0.4, 0.3, 0.4, 0.5, 0.6] and "Plotly.newPlot" in page


def test_a_name_cannot_end_the_script_or_become_markup(tmp_path):
    page = write_space(space(name="</script><b>x"), tmp_path / "p.html", "<i>title").read_text()
    assert "<b>x" not in page and "<i>title" not in page


def test_the_distributions_end_at_one():
    for _, shares in plots(space())["distributions"].values():
        assert shares[-1] == 1


def test_the_finding_says_whether_the_third_stands_out():
    summary = space().summary()
    assert "cannot be told apart" in said({**summary, "p_nearest_third": 0.2})
    assert "has lower errors" in said({**summary, "p_nearest_third": 0.01})
    assert "third" not in said({**summary, "p_nearest_third": None})
