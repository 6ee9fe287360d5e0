"""Page in a headless browser: sorting, viewer, layout and network access."""

import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mindeye_pl.data.simulated.rendering import render as paint
from mindeye_pl.data.simulated.scenes import captions, draw_scene
from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render.bars import Bars
from mindeye_pl.reports.render.curves import Panel, Series
from mindeye_pl.reports.render.gallery import Found, GalleryRow, gallery_section
from mindeye_pl.reports.render.grid import grid_section
from mindeye_pl.reports.render.image_table import FIRST_ROWS, MAX_SCORES, PAGE_SIZE, SEEN, Cell, ImageColumn, ImageRow
from mindeye_pl.reports.render.page import ReportData, write_report
from mindeye_pl.reports.render.section import charts_section
from mindeye_pl.reports.render.table import Column, Results, Row
from mindeye_pl.reports.render.tokens import token_map_section

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ImportError:
    pytest.skip("needs playwright: pip install -e .[dev]", allow_module_level=True)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH: apt-get install chromium")

FLAGS = (
    "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run", "--hide-scrollbars",
)  # fmt: skip
COUNT = 60
COLUMNS = [SEEN, ImageColumn("Reconstructed", "drawn from brain activity"), ImageColumn("Blurry")]
METRICS = [
    Column(f"Metric {i}", f"m{i}", f"Question {i}?", "number", higher_is_better=i % 3 != 2, group=f"Group {i // 4}")
    for i in range(12)
]
GRID, GALLERY = "#reconstructions-table", "#retrieval-gallery-table"


def content() -> ReportData:
    """Return a page of realistic size: 60 images, a gallery, 12 columns, charts."""
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(COUNT)]
    seen = [paint(scene, 32) for scene in scenes]
    scores = rng.permuted(np.tile(np.arange(COUNT), (len(METRICS), 1)), axis=1) / COUNT  # (metrics, rows), no ties
    grid = [
        ImageRow(
            f"stimulus {7 * (COUNT - i)}",
            {"Seen": Cell(seen[i]), "Reconstructed": Cell(1 - seen[i]), "Blurry": Cell(seen[i] * 0.5)},
            captions(scenes[i])[0],
            captions(scenes[i - 1])[0],
            {metric.score: float(scores[j, i]) for j, metric in enumerate(METRICS) if (i, j) != (3, 0)},
        )
        for i in range(COUNT)
    ]
    ranks = [1 + i % 7 for i in range(30)]
    gallery = []
    for i, rank in enumerate(ranks):
        others = [seen[i if position == rank else (i + position) % COUNT] for position in range(1, 6)]
        found = [Found(image, 1 / position, position == rank) for position, image in enumerate(others, 1)]
        gallery.append(GalleryRow(f"stimulus {i}", seen[i], found, rank, COUNT))

    def row(name: str, value: float, **changes: Any) -> Row:
        values = {metric.score: value if metric.higher_is_better else 0.2 - value for metric in METRICS}
        scores = (Score(name, v, None, None, COUNT, (v - 0.05, v + 0.05)) for name, v in values.items())
        return Row(name, tuple(scores), **changes)

    rows = [
        row("shuffled brains", 0.01, kind="null", differs={"m0": "worse"}),
        row("one hour", 0.11, this_run=True),
        row("forty hours", 0.2),
        row("from scratch", 0.05),
        Row("never run", command=f"python -m mindeye_pl {'x' * 200}"),
    ]
    line = Series("model", [1, 2, 3], [0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.2, 0.3, 0.4])
    tokens = rng.normal(size=(2, COUNT, 5))
    parts = [
        charts_section("Curves", [Panel("By repetitions", (line,)), Bars("ROIs", ["V1"], [0.3], None, [0.5])]),
        token_map_section(tokens[0], tokens[1], [row.name for row in grid]),
    ]
    images = [grid_section("Reconstructions", COLUMNS, grid, metrics=METRICS), gallery_section(gallery)]
    return ReportData(
        "A very long title of an experiment: finetune_subj01_1h",
        "A summary in a sentence.",
        simulated=True,
        results=[Results("Scores", rows, METRICS, needs=[f"Metric 1 needs file.pth: command {'y' * 120}"])],
        images=[part for part in images if part],
        more=[part for part in parts if part],
        settings="a_long_key: " + "x" * 300,
        environment={"machine": "a very long description of a machine " * 3},
        cost={"time": "412 s"},
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    write_report(path, content())
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *sandbox])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, path: Path, width: int = 1280, **options: Any) -> Iterator[Page]:
    """Open the page in a window of that width; fails on network access or script errors."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    page = context.new_page()
    fetched: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    yield page
    assert [url for url in fetched if not url.startswith("data:")] == [path.as_uri()]
    assert wrong == []
    context.close()


def shown(page: Page, table: str = GRID) -> list[str]:
    """Return the names of the visible rows in order."""
    return page.locator(f"{table} tbody.row:visible").evaluate_all("rows => rows.map(row => row.dataset.name)")


def wait_for_focus(page: Page, name: str) -> None:
    """Wait until the focus is in the row of that name: a dialog tells of its closing in a later task."""
    page.wait_for_function("name => document.activeElement.closest('tbody')?.dataset.name === name", arg=name)


def scores(page: Page, name: str) -> list[float]:
    values = page.locator(f'{GRID} tbody.row:visible [data-score="{name}"]')
    return values.evaluate_all("found => found.map(each => Number(each.value))")


def test_rows_sort_by_metric_and_direction(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        order = page.locator(f"{GRID} [data-order]")
        assert order.evaluate_all("all => all.map(each => each.ariaPressed)") == ["true", *["false"] * 4]
        as_listed = shown(page)
        assert as_listed[0] == f"stimulus {7 * COUNT}"
        page.click(f"{GRID} [data-order=best]")
        assert scores(page, "m0") == sorted(scores(page, "m0"), reverse=True)
        assert page.inner_text(f"{GRID} .status") == f"{FIRST_ROWS} of {COUNT} shown, best Metric 0 first"
        page.select_option(f"{GRID} [data-metric]", "m2")  # lower is better
        assert scores(page, "m2") == pytest.approx([i / COUNT for i in range(FIRST_ROWS)], abs=1e-5)
        page.click(f"{GRID} [data-order=worst]")
        assert scores(page, "m2") == pytest.approx([1 - (i + 1) / COUNT for i in range(FIRST_ROWS)], abs=1e-5)
        page.select_option(f"{GRID} [data-metric]", "m0")
        page.click(f"{GRID} [data-all]")
        assert shown(page)[-1] == f"stimulus {7 * (COUNT - 3)}", "a row without the score comes last"
        page.click(f"{GRID} [data-order=number]")
        assert shown(page) == [f"stimulus {7 * (i + 1)}" for i in range(FIRST_ROWS)]
        assert page.get_attribute(f"{GRID} [data-names]", "aria-sort") == "ascending"
        page.click(f"{GRID} [data-order=given]")
        assert shown(page) == as_listed


def test_random_order_depends_on_the_seed(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        assert page.locator(f"{GRID} .seed").is_hidden()
        page.click(f"{GRID} [data-order=best]")
        page.click(f"{GRID} [data-order=random]")
        first = shown(page)
        assert "random order, seed 1" in page.inner_text(f"{GRID} .status")
        page.fill(f"{GRID} [data-seed]", "7")
        page.keyboard.press("Tab")
        assert shown(page) != first
        page.fill(f"{GRID} [data-seed]", "1")
        page.keyboard.press("Tab")
        assert shown(page) == first, "whatever was done before"
        page.click(f"{GRID} [data-all]")
        assert sorted(shown(page)) == sorted(f"stimulus {7 * (i + 1)}" for i in range(COUNT))


def test_more_rows_are_shown_in_pages(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        assert len(shown(page)) == FIRST_ROWS
        page.click(f"{GRID} [data-more]")
        assert len(shown(page)) == FIRST_ROWS + PAGE_SIZE
        assert page.evaluate("document.activeElement.closest('tbody').dataset.name") == shown(page)[FIRST_ROWS]
        page.click(f"{GRID} [data-more]")
        assert page.inner_text(f"{GRID} [data-more]") == f"Show {COUNT - FIRST_ROWS - 2 * PAGE_SIZE} more"
        page.click(f"{GRID} [data-more]")
        assert len(shown(page)) == COUNT
        assert page.locator(f"{GRID} .more").is_hidden()


def test_viewer_is_controlled_by_keyboard(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        page.click(f"{GRID} [data-order=best]")
        names = shown(page)
        page.locator(f"{GRID} tbody.row:visible button.image").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#viewer").is_visible()
        assert page.inner_text("#viewer h2") == names[0]
        assert page.inner_text("#viewer .position") == f"1 of {COUNT}"
        assert page.locator("#viewer img").count() == 3
        assert page.locator("#viewer figcaption").all_inner_texts() == ["Seen", "Reconstructed", "Blurry"]
        assert page.locator("#viewer .score").count() == len(METRICS)
        assert page.inner_text("#viewer .predicted-caption").startswith("Predicted from the brain: ")
        tops = page.locator("#viewer img").evaluate_all("all => all.map(each => each.getBoundingClientRect())")
        assert len({top["y"] for top in tops}) == 1, "side by side"
        assert all(top["width"] > 250 for top in tops), "large"
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#viewer h2") == names[0], "there is nothing before the first"
        for _ in range(2):
            page.keyboard.press("ArrowRight")
        assert page.inner_text("#viewer h2") == names[2]
        page.keyboard.press("Tab")
        assert page.evaluate("document.querySelector('#viewer').contains(document.activeElement)"), "focus stays inside"
        page.keyboard.press("Escape")
        wait_for_focus(page, names[2])
        assert page.locator("#viewer").is_hidden()
        page.keyboard.press("Enter")
        for _ in range(FIRST_ROWS):
            page.keyboard.press("ArrowRight")
        last = page.inner_text("#viewer h2")
        page.keyboard.press("Escape")
        wait_for_focus(page, last)
        assert len(shown(page)) == FIRST_ROWS + 3, "the last row of the viewer is shown"
        assert shown(page)[-1] == last


def test_gallery_sorts_by_rank_and_reuses_embedded_images(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        unseen = page.locator("img").evaluate_all("all => all.filter(each => !each.naturalWidth).length")
        assert unseen == 0, "every image of the page has its pixels"
        page.click(f"{GALLERY} [data-order=worst]")
        ranks = page.locator(f"{GALLERY} tbody.row:visible td:nth-of-type(1) .small").all_inner_texts()
        assert ranks == sorted(ranks, reverse=True)
        assert ranks[0] == f"rank 7 of {COUNT}"
        page.click(f"{GALLERY} [data-order=best]")
        page.locator(f"{GALLERY} tbody.row:visible button.image").nth(1).click()
        assert page.locator("#viewer figcaption").nth(1).inner_text() == "Found 1 · ✓ seen image · 1.000"
        assert page.locator("#viewer figure.marked").count() == 1
        page.click("#viewer [data-close]")
        assert page.evaluate("document.activeElement.querySelector('img').alt").startswith("Found 1"), "focus returns"


def test_score_table_sorts_within_kinds(browser: Browser, path: Path) -> None:
    def names() -> list[str]:
        rows = page.locator("table.results tr:not(.kind) > th[scope=row]")
        return rows.evaluate_all("all => all.map(each => each.firstChild.textContent.trim())")

    with opened(browser, path) as page:
        given = names()
        for score, direction in (("m0", "descending"), ("m2", "ascending")):  # more is better, less is better
            head = page.locator("table.results th", has=page.locator(f"[data-sort={score}]"))
            head.locator("button").focus()
            page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == direction
            assert names() == ["shuffled brains", "forty hours", "one hour", "from scratch", "never run"]
        assert page.locator('table.results th[aria-sort]:not([aria-sort="none"])').count() == 1
        page.keyboard.press("Enter")
        assert names() == ["shuffled brains", "from scratch", "one hour", "forty hours", "never run"]
        page.keyboard.press("Enter")
        assert names() == given


def test_images_lead_and_their_columns_are_aligned(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        sections = page.locator("main section").evaluate_all("all => all.map(each => each.id)")
        assert sections.index("reconstructions") == 0
        assert sections.index("scores") == 2, "the tables of scores come after the images"
        boxes = "all => all.map(each => each.getBoundingClientRect().toJSON())"
        heads = page.locator(f"{GRID} thead th:not([data-names])").evaluate_all(boxes)
        images = page.locator(f"{GRID} tbody.row:visible button.image").evaluate_all(boxes)
        assert len(images) == FIRST_ROWS * len(COLUMNS)
        for index, box in enumerate(images):
            assert box["x"] == pytest.approx(heads[index % len(COLUMNS)]["x"], abs=1)
            assert box["width"] == pytest.approx(images[0]["width"], abs=1)
        assert images[0]["width"] > 200
        assert page.locator(f"{GRID} tbody.row:visible .score:visible").count() == FIRST_ROWS * MAX_SCORES
        page.select_option(f"{GRID} [data-metric]", "m9")
        shown = page.locator(f"{GRID} tbody.row:visible .score:visible")
        assert shown.count() == FIRST_ROWS * (MAX_SCORES + 1), "also the score that the rows are sorted by"


def test_a_phone_has_the_same_rows_and_a_legend(browser: Browser, path: Path) -> None:
    with opened(browser, path, 390) as page:
        assert len(shown(page)) == FIRST_ROWS
        assert "drawn from brain activity" in page.inner_text(f"{GRID} thead")
        row = page.locator(f"{GRID} tbody.row:visible").first
        tops = row.locator("button.image").evaluate_all("all => all.map(each => each.getBoundingClientRect().top)")
        assert len(tops) == 3
        assert len(set(tops)) == 1, "side by side"
        bottoms = page.locator(f"{GRID} tbody.row:visible").evaluate_all(
            "all => all.map(each => [each.getBoundingClientRect().top, each.getBoundingClientRect().bottom])"
        )
        assert all(above[1] <= below[0] + 1 for above, below in itertools.pairwise(bottoms)), "rows do not overlap"


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_desktop_and_phone_in_both_themes(
    browser: Browser, path: Path, tmp_path: Path, width: int, scheme: Any
) -> None:
    with opened(browser, path, width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        outside = """all => all.filter(each => !each.closest("svg svg *, pre, .unseen, thead, .scroll.wide"))
          .filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.className)"""
        assert page.locator("main *").evaluate_all(outside) == []
        heights = page.locator("figure svg").evaluate_all("all => all.map(each => each.getBoundingClientRect().height)")
        assert len(heights) == 3
        assert min(heights) > 120
        page.screenshot(path=tmp_path / "page.png")
        page.locator(f"{GRID} button.image").first.click()
        assert page.locator("#viewer").evaluate("box => box.scrollWidth <= box.clientWidth")
        page.screenshot(path=tmp_path / "viewer.png")
    for name in ("page.png", "viewer.png"):
        with Image.open(tmp_path / name) as image:
            assert image.size == (width, 900)
    with Image.open(tmp_path / "page.png") as image:
        background = image.convert("L").getpixel((5, 890))
    assert background > 230 if scheme == "light" else background < 40


def test_reduced_motion_is_respected(browser: Browser, path: Path) -> None:
    with opened(browser, path, reduced_motion="reduce") as page:
        page.locator(f"{GRID} button.image").first.click()
        assert page.evaluate("document.getAnimations().length") == 0
        assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def test_controls_have_names_and_visible_focus(browser: Browser, path: Path) -> None:
    with opened(browser, path) as page:
        for control in page.locator("main button:visible, main select:visible").all()[:60]:
            control.focus()
            page.keyboard.press("Shift")  # so that the focus counts as the keyboard's
            name = control.evaluate(
                "it => it.ariaLabel || it.innerText || it.labels?.[0]?.innerText || it.querySelector('img')?.alt"
            )
            assert name.strip()
            assert control.evaluate("it => getComputedStyle(it).outlineStyle") != "none", name


def test_page_is_readable_without_scripts(browser: Browser, path: Path) -> None:
    with opened(browser, path, java_script_enabled=False) as page:
        assert page.locator(f"{GRID} tbody.row:visible").count() == COUNT
        assert page.locator(f"{GRID} .controls").is_hidden()
