"""The picture of `accuracy.py`: every seed a mark, before and after the short fine-tune, a panel for each network.

`python benchmarks/accuracy_picture.py results/accuracy.json docs/assets/accuracy.png` (a page, where the name ends in
.html; a picture of it needs Chromium and Playwright).
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

_PANEL, _NAMES = 450, 150
"""Pixels of a panel, and of the names beside it."""
_BEFORE, _AFTER, _PEER = "#9aa5b1", "#1f6fb2", "#c2571a"


def figure(rows: dict[str, dict[str, Any]]) -> go.Figure:
    """One panel for each network, one line for each contender, best after tuning on top."""
    nets = list(dict.fromkeys(key.split("/")[0] for key in rows))
    width = _PANEL * len(nets) + 80
    made = make_subplots(1, len(nets), subplot_titles=nets, horizontal_spacing=_NAMES / width)
    for column, net in enumerate(nets, 1):
        mine: dict[str, list[dict[str, Any]]] = {}
        for key, row in rows.items():
            if key.startswith(f"{net}/") and "cut" in row:
                mine.setdefault(key.removeprefix(f"{net}/").rpartition("/")[0], []).append(row)
        order = sorted(mine, key=lambda name: sum(r["tuned"] for r in mine[name]) / len(mine[name]))
        peers = [name for name in order if name.startswith("tp/")]
        ours = [name for name in order if name not in peers]
        for when, names, label, colour in (
            ("cut", order, "as cut", _BEFORE),
            ("tuned", ours, "after 60 steps", _AFTER),
            ("tuned", peers, "after 60 steps, Torch-Pruning", _PEER),
        ):
            points = [(r[when], name) for name in names for r in mine[name]]
            made.add_scatter(
                x=[x for x, _ in points],
                y=[name for _, name in points],
                mode="markers",
                name=label,
                showlegend=column == 1,
                marker={"color": colour, "size": 10, "symbol": "circle-open" if when == "cut" else "circle"},
                row=1,
                col=column,
            )
        made.update_yaxes(categoryorder="array", categoryarray=order, row=1, col=column)
        made.update_xaxes(title="accuracy", tickformat=".0%", row=1, col=column)
    made.update_layout(
        template="plotly_white",
        title="Half the MACs (@: another share): accuracy as cut and after the same 60 steps; "
        "each mark is a seed (tp/: Torch-Pruning)",
        width=width,
        height=620,
        legend={"orientation": "h", "y": -0.12},
    )
    return made


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("figures", type=Path)
    options.add_argument("out", type=Path)
    given = options.parse_args()
    made = figure(json.loads(given.figures.read_text())["figures"]["rows"])
    if given.out.suffix == ".html":
        made.write_html(given.out)
        return
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        page_file = Path(folder) / "page.html"
        made.write_html(page_file)
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": made.layout.width, "height": made.layout.height})
        page.goto(page_file.as_uri())
        page.wait_for_selector(".main-svg")
        page.screenshot(path=given.out)
        browser.close()


if __name__ == "__main__":
    main()
