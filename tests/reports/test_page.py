import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mindeye_pl.metrics.score import Score
from mindeye_pl.reports import page
from mindeye_pl.reports.curves import training_panels
from mindeye_pl.reports.page import ReportData, Results, Section, Training, UsedArtifact, render, write_report
from mindeye_pl.reports.table import Row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COMMAND = "python -m mindeye_pl +experiment=scratch_subj01_1h"


def report(simulated: bool = True, **changes: object) -> ReportData:
    scores = (
        Score("image_retrieval", 0.634, 1 / 300, 300, 1000, (0.584, 0.684)),
        Score("brain_retrieval", 0.589, 1 / 300, 300, 1000, (0.539, 0.639)),
    )
    records = [{"epoch": e, "train/loss": 5.0 - e, "train/prior": 4.0 - e, "learning_rate": 1e-4} for e in range(4)]
    content = {
        "title": "Subject 1, one hour",
        "summary": "The picture is found.",
        "simulated": simulated,
        "results": [
            Results(
                "Results",
                [
                    Row("Fine-tuned, 1 hour", scores, simulated=simulated, this_run=True),
                    Row("From scratch, 1 hour", command=COMMAND, simulated=simulated),
                    Row("One direction only", scores[:1], note="a note", simulated=simulated),
                ],
            )
        ],
        "trainings": [Training("Fine-tuning", training_panels(records)), Training("Pretraining", ())],
        "settings": "seed: 42\nscale:\n  name: laptop\n" + "a_very_long_key: " + "x" * 200,
        "environment": {"torch": "2.6", "machine": "a very long description of a machine " * 3},
        "artifacts": [UsedArtifact("pretrain", "subjects 2-8", "0123456789abcdef" * 4, 431.2)],
    }
    return ReportData(**(content | changes))  # type: ignore[arg-type]


class Structure(HTMLParser):
    """Tags in order, ids, and whether everything that opens closes."""

    VOID = ("meta", "br", "img", "link", "input", "hr")

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        return [str(attributes[attribute]) for _, attributes in self.tags if attribute in attributes]


def test_the_page_is_well_formed_and_its_links_lead_somewhere() -> None:
    structure = Structure(render(report()))
    ids = structure.values("id")
    assert len(ids) == len(set(ids))
    links = structure.values("href") + structure.values("xlink:href")
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert set(structure.values("aria-labelledby")) <= set(ids)
    titles = [tag for tag, _ in structure.tags if re.fullmatch("h[1-6]", tag)]
    assert titles == ["h1", *["h2"] * 5]


def test_the_page_needs_nothing_else() -> None:
    html = render(report())
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)  # names of XML, never fetched
    assert "http" not in without_names
    assert "//" not in without_names
    assert not re.search(r"<(link|script|img|iframe|object)\b|@import|url\((?!#)", html)


def test_everything_of_the_run_is_on_the_page() -> None:
    html = render(report())
    for part in (
        "Subject 1, one hour", "The picture is found.",
        "63.4\u202f%", "58.4–68.4", "0.33\u202f% (1 of 300)", "not run yet", COMMAND, "a note",
        "Training loss and its parts", "name: laptop", "2.6", "0123456789ab", "subjects 2-8", "431",
    ):  # fmt: skip
        assert part in html, part
    assert "Pretraining" not in html, "a training without records has no section"
    assert all(label.strip() for label in Structure(html).values("aria-label"))


def test_simulated_is_said_everywhere_or_nowhere() -> None:
    html = render(report())
    assert "<title>Subject 1, one hour (simulated)</title>" in html
    assert "Simulated data." in html
    assert "Results (simulated)" in html
    assert html.count('<span class="tag quiet">simulated</span>') == 3
    real = render(report(simulated=False))
    body = real[real.index("<body") :]
    assert "simulated" not in body.lower()


def test_text_is_escaped() -> None:
    evil = "<script>alert('x')</script> & \"quotes\""
    html = render(
        report(
            title=evil,
            summary=evil,
            results=[Results("Results", [Row(evil, command=evil, note=evil, status=evil)])],
            settings=evil,
            environment={evil: evil},
            artifacts=[UsedArtifact(evil, evil, evil)],
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10
    Structure(html)


def test_empty_parts_have_no_section_and_new_ones_find_a_place() -> None:
    bare = render(ReportData("Title", "Summary.", simulated=False))
    assert "<section" not in bare
    html = render(report(more=[Section("gallery", "Gallery", "<p>pictures</p>")]))
    order = re.findall(r'<section id="([\w-]+)"', html)
    assert order == ["results", "fine-tuning", "gallery", "settings", "environment", "artifacts"]
    assert "<p>pictures</p>" in html


def test_an_older_page_stays_whole_until_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "reports" / "report.html"
    write_report(path, report())
    before = path.read_text()
    assert before == render(report()), "the same report is the same file"

    def broken(panel: object) -> str:
        raise RuntimeError("no ink")

    monkeypatch.setattr(page, "draw", broken)
    with pytest.raises(RuntimeError, match="no ink"):
        write_report(path, report(title="new"))
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize("module", ["page", "table", "curves", "environment"])
def test_heavy_libraries_wait_until_they_are_used(module: str) -> None:
    heavy = ("sklearn", "scipy", "matplotlib", "open_clip", "torch", "jinja2", "torchmetrics")
    code = f"import sys, mindeye_pl.reports.{module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def browse(tmp_path: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    flags = (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", "--no-first-run", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'profile'}",
    )  # fmt: skip
    return subprocess.run(
        [CHROMIUM, *flags, *arguments], capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    ).stdout


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium browser on the PATH")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_sideways_scrolling(tmp_path: Path, width: int) -> None:
    """In a frame of that width, as a browser's own window may not be as narrow as a phone."""
    measure = """
      const page = document.querySelector("iframe");
      page.onload = () => {
        const inside = page.contentDocument, right = element => element.getBoundingClientRect().right;
        const shown = [...inside.querySelectorAll("body *")].filter(e => !e.closest("svg svg *, pre, .unseen, thead"));
        document.title = JSON.stringify({
          scroll: inside.documentElement.scrollWidth,
          wide: shown.filter(e => right(e) > page.clientWidth + 1).length,
          charts: [...inside.querySelectorAll("svg")].map(e => Math.round(e.getBoundingClientRect().height)),
        });
      };
      page.srcdoc = report;
    """
    (tmp_path / "frame.html").write_text(
        f"<title></title><iframe width={width} height=2000 frameborder=0></iframe>"
        f"<script>const report = {json.dumps(render(report()))};{measure}</script>"
    )
    dom = browse(tmp_path, "--virtual-time-budget=3000", "--dump-dom", (tmp_path / "frame.html").as_uri())
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None
    sizes = json.loads(title[1])
    assert (sizes["scroll"], sizes["wide"]) == (width, 0)
    assert len(sizes["charts"]) == 2
    assert all(height > 120 for height in sizes["charts"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs a chromium browser on the PATH")
def test_light_and_dark(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report())
    for name, flags in (("light", []), ("dark", ["--blink-settings=preferredColorScheme=0"])):
        target = tmp_path / f"{name}.png"
        arguments = [*flags, "--window-size=800,900", f"--screenshot={target}", (tmp_path / "report.html").as_uri()]
        browse(tmp_path, *arguments)
        with Image.open(target) as picture:
            background = picture.convert("L").getpixel((5, 800))
        assert background > 230 if name == "light" else background < 40, name
