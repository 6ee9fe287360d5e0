import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mindeye_pl.metrics.statistics.score import Score
from mindeye_pl.reports.render import section
from mindeye_pl.reports.render.curves import training_panels
from mindeye_pl.reports.render.page import ReportData, render, write_report
from mindeye_pl.reports.render.section import Section, charts_section
from mindeye_pl.reports.render.table import Results, Row

COMMAND = "python -m mindeye_pl +experiment=scratch data.subject=1"


def manifest(step: str, label: str, fingerprint: str) -> dict[str, object]:
    return {"step": step, "label": label, "fingerprint": fingerprint, "seconds": 431.2}


def report(simulated: bool = True, **changes: object) -> ReportData:
    scores = (
        Score("image_retrieval", 0.634, 1 / 300, 300, 1000, (0.584, 0.684)),
        Score("brain_retrieval", 0.589, 1 / 300, 300, 1000, (0.539, 0.639)),
    )
    records = [{"epoch": e, "train/loss": 5.0 - e, "train/prior": 4.0 - e, "learning_rate": 1e-4} for e in range(4)]
    content = {
        "title": "Subject 1, one hour",
        "summary": "The image is found.",
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
        "images": [charts_section("Fine-tuning", training_panels(records)), charts_section("Pretraining", ())],
        "settings": "seed: 42\nscale:\n  name: laptop\n" + "a_very_long_key: " + "x" * 200,
        "environment": {"torch": "2.6", "machine": "a very long description of a machine " * 3},
        "artifacts": [manifest("pretrain", "subjects 2-8", "0123456789abcdef" * 4)],
    }
    return ReportData(**(content | changes))  # type: ignore[arg-type]


class Structure(HTMLParser):
    """HTML parser that records tags and checks that all tags are closed."""

    VOID = ("meta", "br", "img", "link", "input", "hr")
    CDATA_CONTENT_ELEMENTS = ("script", "style")

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


def test_page_is_well_formed_and_links_are_valid() -> None:
    structure = Structure(render(report()))
    ids = structure.values("id")
    assert len(ids) == len(set(ids))
    links = structure.values("href") + structure.values("xlink:href")
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert set(structure.values("aria-labelledby")) <= set(ids)
    titles = [tag for tag, _ in structure.tags if re.fullmatch("h[1-6]", tag)]
    assert titles == ["h1", *["h2"] * 5]


def test_page_is_self_contained() -> None:
    html = render(report())
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)  # XML namespaces are never fetched
    assert not re.search(r"https?:", without_names)
    assert not re.search(r"<(link|iframe|object)\b|@import|url\((?!#)|<script [^>]*src", html)
    assert all(source.startswith("data:") for source in Structure(html).values("src"))


def test_policy_allows_only_the_own_style_and_script() -> None:
    html = render(report())
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert html.index(policy[0]) < html.index("<style")
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    structure = Structure(html)
    assert not structure.values("style"), "the policy forbids style attributes"
    assert not [name for _, attributes in structure.tags for name in attributes if name.startswith("on")]


def test_page_contains_all_report_data() -> None:
    html = render(report())
    for part in (
        "Subject 1, one hour", "The image is found.",
        "63.4\u202f%", "58.4–68.4", "0.33\u202f% (1 of 300)", "not run yet", COMMAND, "a note",
        "Training loss and its terms", "name: laptop", "2.6", "0123456789ab", "subjects 2-8", "431",
    ):  # fmt: skip
        assert part in html, part
    assert "Pretraining" not in html, "a training without records has no section"
    assert all(label.strip() for label in Structure(html).values("aria-label"))


def test_simulated_data_are_marked_everywhere() -> None:
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
            artifacts=[manifest(evil, evil, evil)],
        )
    )
    assert html.count("<script") == 1, "only the page's own script"
    assert html.count("&lt;script&gt;") >= 10
    Structure(html)


def test_empty_sections_are_omitted_and_extra_sections_added() -> None:
    bare = render(ReportData("Title", "Summary.", simulated=False))
    assert "<section" not in bare
    html = render(report(more=[Section("gallery", "Gallery", "<p>images</p>")]))
    order = re.findall(r'<section id="([\w-]+)"', html)
    assert order == ["fine-tuning", "results", "gallery", "settings", "environment", "artifacts"]
    assert "<p>images</p>" in html


def test_page_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "reports" / "report.html"
    write_report(path, report())
    before = path.read_text()
    assert before == render(report()), "equal reports are equal files"

    def broken(template: str) -> str:
        raise RuntimeError("template error")

    monkeypatch.setattr(section, "_templates", lambda: broken("page.html"))
    with pytest.raises(RuntimeError, match="template error"):
        write_report(path, report(title="new"))
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_cost_section() -> None:
    html = render(report(cost={"time of all steps": "412 s", "peak memory": "1.2 GB"}))
    assert html.index('<section id="cost"') < html.index('<section id="settings"')
    assert "<dt>time of all steps</dt><dd>412 s</dd>" in html


@pytest.mark.parametrize("module", ["page", "table", "curves", "grid", "gallery", "tokens", "published"])
def test_import_does_not_load_heavy_libraries(module: str) -> None:
    heavy = ("sklearn", "scipy", "matplotlib", "open_clip", "torch", "jinja2", "torchmetrics")
    code = f"import sys, mindeye_pl.reports.render.{module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
