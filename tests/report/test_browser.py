"""The page in a real browser: from a file, without a network, by mouse and by keyboard."""

import csv
import itertools
import json
import random
import shutil

import pytest

from secateur.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
FLAGS += " --disable-component-update --disable-sync"
EVIL = '<img src=x onerror="window.broken=1"></script><script>window.broken=1</script>'

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def report(synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    made = synthetic.write_comparison(
        folder / "compare",
        methods=("magnitude", "lamp", "gmp"),
        sparsities=(0.5, 0.9),
        seeds=2,
        recoveries=("finetune", "finetune+distill"),
    )
    synthetic.damage(made, failed=1, missing=1)
    file = next((made / "cells").glob("lamp-0.5-finetune-seed0-*/row.json"))
    row = json.loads(file.read_text())
    file.write_text(json.dumps({**row, "metrics": {**row["metrics"], EVIL: 1.0}, "settings": {EVIL: EVIL}}))
    other = next((made / "cells").glob("magnitude-0.5-finetune-seed0-*/row.json"))
    other.write_text(json.dumps({**json.loads(other.read_text()), "command": None}))
    return write_report(made, folder / "report.html")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield started
        started.close()


@pytest.fixture
def open_page(browser, report):
    """Opens the report; in the end there was no request but the file itself, and nothing on the console."""
    opened = []

    def opens(**options):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True, **options)
        page = context.new_page()
        found = []
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else found.append(r.url))
        page.on("console", lambda m: found.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: found.append(str(e)))
        page.goto(report.as_uri())
        page.wait_for_selector("#tradeoff-plot .scatterlayer .point")
        opened.append((context, found))
        return page

    yield opens
    for context, found in opened:
        assert not [p for p in context.pages if p.evaluate("window.broken")]
        assert found == []
        context.close()


def wait_until(page, condition):
    """Polled from here: the page's policy forbids the evaluation that `wait_for_function` needs."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def click_mean(page, series, at=0):
    """Click on a mean of a line by its place in the plot."""
    x, y = page.evaluate(
        """([series, at]) => {
            const box = document.getElementById("tradeoff-plot");
            const seriesOf = (t) => window.secateurReport.data.runs[t.customdata[0]].s;
            const trace = box._fullData.find((t) => t.mode === "lines+markers" && seriesOf(t) === series);
            const corner = box.getBoundingClientRect();
            const [x, y] = [box._fullLayout.xaxis, box._fullLayout.yaxis];
            const [across, down] = [x.l2p(x.d2l(trace.x[at])), y.l2p(y.d2l(trace.y[at]))];
            return [across + x._offset + corner.left, down + y._offset + corner.top];
        }""",
        [series, at],
    )
    page.mouse.click(x, y)


def test_a_click_on_a_point_opens_the_details_of_its_runs(open_page):
    page = open_page()
    page.locator("#seeds").uncheck()
    page.locator("#recovery").select_option(label="finetune")
    page.locator("#tradeoff-plot").scroll_into_view_if_needed()
    click_mean(page, series=2, at=1)
    page.wait_for_selector("#details:not([hidden])")
    assert page.locator("#details-title").inner_text() == "magnitude + finetune at 90 %, seed 0"
    assert page.locator("#table tr.chosen").count() == 1
    page.locator("#details .seeds button").nth(1).click()
    assert page.locator("#details-title").inner_text().endswith("seed 1")
    page.keyboard.press("Escape")
    assert page.locator("#details").is_hidden() and page.locator("#table tr.chosen").count() == 0


def test_axes_filters_and_the_legend_change_the_plot(open_page):
    page = open_page()
    title = page.locator("#tradeoff-plot .xtitle")
    traces = "document.getElementById('tradeoff-plot').data.length"
    assert title.text_content() == "Non-zero parameters"
    page.locator("#cost").select_option(label="latency (ms)")
    assert title.text_content() == "Latency (ms)"
    page.locator("#metric").select_option(label="loss")
    assert "less is better" in page.locator("#tradeoff-plot .ytitle").text_content()
    page.locator("#cost").select_option(label="parameters")
    assert "points lie above each other" in page.locator("#tradeoff-note").inner_text()
    before = page.evaluate(traces)
    page.locator("#seeds").uncheck()
    assert page.evaluate(traces) < before
    before = page.evaluate(traces)
    page.locator("#tradeoff .chip", has_text="lamp").click()
    assert page.evaluate(traces) == before - 2  # a line for each recovery
    page.locator("#recovery").select_option(label="finetune")
    assert page.evaluate(traces) == before - 2 - 2
    page.locator("#metric").select_option(index=2)  # the hostile name
    assert "<img" in page.locator("#tradeoff-plot .ytitle").text_content()


def test_every_plot_draws_when_it_comes_into_view(open_page):
    page = open_page()
    assert page.locator("#overlap-plot svg, #curves-plot svg").count() == 0
    for section, mark in [("layers", ".hm image"), ("overlap", ".hm image"), ("curves", ".scatterlayer .js-line")]:
        page.evaluate(f"document.getElementById('{section}').scrollIntoView({{behavior: 'instant'}})")
        page.wait_for_selector(f"#{section}-plot {mark}")
    assert "chance" in page.locator("#overlap-plot .textpoint").first.text_content()
    page.locator("#curves-sparsity").select_option(label="50 %")
    assert page.locator("#curves-note").inner_text().startswith("12 runs")


def test_the_table_sorts_filters_and_saves_what_it_shows(open_page):
    page = open_page()
    head = page.locator("#table thead th", has_text="Accuracy")
    cells = "[...document.querySelectorAll('#table tbody tr')].map(r => Number(r.cells[4].title) || null)"
    for order, sign in (("ascending", 1), ("descending", -1)):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == order
        known = [v for v in page.evaluate(cells) if v is not None]
        assert known == sorted(known, key=lambda v: sign * v) and page.evaluate(cells)[-1] is None
    page.locator("#by-method").select_option(label="gmp(end=0.5)")
    page.locator("#by-sparsity").select_option(label="90 %")
    page.locator("#filter").fill("distill")
    assert page.locator("#count").inner_text() == "1 of 29 runs"  # one is not there, one failed
    page.locator("#filter").fill("gmp")
    with page.expect_download() as saved:
        page.locator("#csv").click()
    with saved.value.path().open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = page.locator("#table tbody tr").count()
    assert len(rows) == shown == 3 and {r["method"] for r in rows} == {"gmp(end=0.5)"}
    assert sorted(r["state"] for r in rows) == ["done", "done", "failed"]
    assert any("layer collapse" in r["error"] for r in rows)


def test_the_command_is_copied_with_and_without_a_clipboard(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.locator("#table tbody tr", has_text="lamp").nth(1).click()
    page.locator("#copy").click()
    wait_until(page, "document.getElementById('copy').textContent === 'Copied'")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#details .command pre").inner_text()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("addEventListener('copy', () => { window.seen = String(document.activeElement.value); })")
    page.locator("#details .seeds button").nth(1).click()
    page.locator("#copy").click()
    wait_until(page, "document.getElementById('copy').textContent === 'Copied'")
    assert page.evaluate("window.seen") == page.locator("#details .command pre").inner_text()
    page.locator("#table tbody tr", has_text="magnitude").first.click()
    assert "ran from Python objects" in page.locator("#details").inner_text() and page.locator("#copy").count() == 0


def test_it_works_by_keyboard_alone(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Accuracy":
            break
    page.keyboard.press("Enter")
    assert page.locator("#table th[aria-sort=ascending]").inner_text().startswith("Accuracy")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "row":
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    at = page.evaluate("[...document.querySelectorAll('button.row')].indexOf(document.activeElement)")
    page.keyboard.press("Enter")
    assert at == 2 and page.locator("#details").is_visible()
    assert page.evaluate("document.activeElement.id") == "details-title"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "row"


def test_dark_follows_the_system_and_the_button(open_page):
    page = open_page(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    dark, line = page.evaluate(ground), page.locator("#tradeoff-plot .xtitle").evaluate("e => e.style.fill")
    page.locator("#theme").click()
    assert page.evaluate(ground) != dark and page.locator("#theme").get_attribute("aria-pressed") == "false"
    assert page.locator("#tradeoff-plot .xtitle").evaluate("e => e.style.fill") != line


def test_a_phone_scrolls_down_but_not_sideways(open_page):
    page = open_page()
    page.set_viewport_size({"width": 375, "height": 800})
    for section in ("tradeoff", "layers", "overlap", "curves", "runs"):
        page.evaluate(f"document.getElementById('{section}').scrollIntoView({{behavior: 'instant'}})")
        page.wait_for_timeout(150)
    right = "e => e.getBoundingClientRect().right"
    boxes = page.locator("section, .plot svg.main-svg")
    assert all(boxes.nth(i).evaluate(right) <= 376 for i in range(boxes.count()))
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.locator("#table tbody tr").first.click()
    assert page.locator("#details").bounding_box()["width"] <= 375


def test_the_front_is_what_no_point_beats(open_page):
    """Against brute force over all pairs."""
    page, g = open_page(), random.Random(0)
    for lower, _ in itertools.product((True, False), range(30)):
        points = [[g.randint(0, 6), g.choice([g.randint(0, 6), None])] for _ in range(g.randint(0, 12))]
        known = [i for i, p in enumerate(points) if p[1] is not None]

        def beats(i, j, points=points, lower=lower):
            (x, y), (u, v) = points[i], points[j]
            y, v = (y, v) if lower else (-y, -v)
            return x <= u and y <= v and (x, y) != (u, v)

        slow = {j for j in known if not any(beats(i, j) for i in known)}
        found = page.evaluate("([p, lower]) => window.secateurReport.pareto(p, lower)", [points, lower])
        assert set(found) == slow and len(found) == len(slow)
