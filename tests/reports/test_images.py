"""Reconstruction grid and retrieval gallery, tested without a browser.

Legend: H and W image size in pixels.
"""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from mindeye_pl.reports.render.gallery import Found, GalleryRow, gallery_section
from mindeye_pl.reports.render.grid import grid_section
from mindeye_pl.reports.render.image_table import MAX_SCORES, SEEN, Cell, ImageColumn, ImageRow
from mindeye_pl.reports.render.page import ReportData, render
from mindeye_pl.reports.render.section import Section
from mindeye_pl.reports.render.table import Column
from mindeye_pl.reports.render.thumbnails import SECTION_BYTES, Thumbnails

EVIL = "<img src=x onerror=alert(1)> & \"quotes\" 'too'"
METRICS = (Column("PixCorr", "pixcorr", form="number"), Column("SwAV", "swav", form="number", higher_is_better=False))


def image(seed: int, size: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).random((3, size, size), dtype=np.float32)


def photograph(seed: int, size: int = 768) -> np.ndarray:
    """Return noise with the spectrum of a photograph, (3, H, W)."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) + 1 / size
    waves = np.fft.rfft2(rng.normal(size=(3, size, size))) / frequency
    noise = np.fft.irfft2(waves, s=(size, size))
    return np.clip(0.5 + 0.18 * noise / noise.std(), 0, 1).astype(np.float32)


def page(*sections: Section | None) -> str:
    return render(ReportData("t", "s", simulated=False, images=[part for part in sections if part]))


def grid(count: int = 3, **changes: object) -> Section:
    rows = [
        ImageRow(
            f"stimulus {i}",
            {"Seen": Cell(image(i)), "Reconstructed": Cell(image(100 + i))},
            "a scene",
            "predicted caption",
            {"pixcorr": i / 10, "swav": 1 - i / 10},
        )
        for i in range(count)
    ]
    columns = [SEEN, ImageColumn("Reconstructed", "drawn from brain activity"), ImageColumn("Refined")]
    section = grid_section("Reconstructions", columns, rows, metrics=METRICS, **changes)  # type: ignore[arg-type]
    assert section is not None
    return section


def decoded(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_grid_shows_images_with_alt_text_and_scores() -> None:
    html = page(grid())
    assert html.count("<tbody") == 3
    assert 'alt="Seen, stimulus 2"' in html
    assert 'alt="Reconstructed, stimulus 0"' in html
    assert "Refined, stimulus" not in html, "an empty cell has no image"
    assert '<span>PixCorr</span> <data value="0.2" data-score="pixcorr">0.200</data>' in html
    assert "<span>SwAV ↓</span>" in html
    assert re.search(r'<option value="swav" data-lower>', html)
    assert grid_section("Reconstructions", [SEEN], []) is None


def test_columns_say_where_their_images_come_from_and_rows_carry_both_captions() -> None:
    html = grid().html
    assert '<th scope="col" class="stimulus">Seen<small>shown to the subject</small></th>' in html
    assert '<th scope="col" class="brain">Reconstructed<small>drawn from brain activity</small></th>' in html
    assert html.count('<span class="caption">a scene</span>') == 3
    assert html.count('<span class="predicted-caption">predicted caption</span>') == 3
    assert 'class="images columns-3"' in html
    metrics = [Column(f"M{i}", f"m{i}", form="number") for i in range(MAX_SCORES + 2)]
    scores = {metric.score: 0.5 for metric in metrics}
    many = grid_section("Many", [SEEN], [ImageRow("s", {"Seen": Cell(image(0))}, scores=scores)], metrics=metrics)
    assert many is not None
    assert many.html.count('class="score further"') == 2


def test_small_images_are_embedded_losslessly() -> None:
    section = grid(1)
    pixels = (image(0) * 255).round().astype(np.uint8).transpose(1, 2, 0)
    assert any(np.array_equal(decoded(uri), pixels) for uri in section.images.values())
    assert all(uri.startswith("data:image/png") for uri in section.images.values())
    assert page(section).count('class="pixels"') == 2, "small images are pixelated"


def test_each_image_is_embedded_once() -> None:
    seen = [image(i) for i in range(3)]
    found = [[Found(seen[j], 0.5, true=j == i) for j in range(3)] for i in range(3)]
    rows = [GalleryRow(f"stimulus {i}", seen[i], found[i], rank=i + 1, pool_size=3) for i in range(3)]
    html = page(grid(), gallery_section(rows))
    sources = re.findall(r'src="(data:[^"]+)"', html)
    assert len(sources) == len(set(sources)) == 6
    assert len(re.findall("data-same=", html)) == 12
    known = set(re.findall(r'id="(image-\w+)"', html))
    assert set(re.findall(r'data-same="([^"]+)"', html)) <= known


def test_gallery_marks_the_true_image_and_shows_its_rank() -> None:
    true = Found(image(1), 0.9, True, "stimulus 1")
    rows = [
        GalleryRow("stimulus 1", image(1), [true, Found(image(2), 0.8)], 1, 300),
        GalleryRow("stimulus 3", image(3), [Found(image(4), 0.7), Found(image(5), 0.6)], 41, 300),
    ]
    section = gallery_section(rows)
    assert section is not None
    assert section.html.count("✓ seen image") == 1
    assert 'alt="Found 1: stimulus 1, the seen image"' in section.html
    assert "rank 41 of 300" in section.html
    assert "rank 1 in 1 of 2 rows" in section.html
    assert "0.900" in section.html
    with pytest.raises(AssertionError, match="stimulus 1"):
        GalleryRow("stimulus 1", image(1), [Found(image(1), 0.9, True)], 2, 300)
    assert gallery_section([]) is None


def test_text_is_escaped() -> None:
    row = ImageRow(EVIL, {EVIL: Cell(image(0))}, EVIL, EVIL, {"m": 0.5})
    grid = grid_section(EVIL, [ImageColumn(EVIL, EVIL)], [row], EVIL, metrics=[Column(EVIL, "m", EVIL)])
    found = GalleryRow(EVIL, image(0), [Found(image(1), 0.1, False, EVIL)], 5, 9, EVIL)
    html = page(grid, gallery_section([found], EVIL, EVIL))
    assert "<img src=x" not in html
    assert html.count("&lt;img src=x") > 12


@pytest.mark.parametrize("num_images", [1000, 5000])
def test_thumbnails_of_many_large_images_stay_small(num_images: int) -> None:
    thumbnails = Thumbnails(num_images)
    shown = [thumbnails.add(photograph(seed)) for seed in range(6)]
    bytes_each = sum(map(len, thumbnails.uris.values())) / len(shown)
    assert bytes_each * num_images < 1.05 * SECTION_BYTES < 25e6
    assert all(64 <= thumbnail.width <= 256 and not thumbnail.pixelated for thumbnail in shown)
    assert all(uri.startswith("data:image/jpeg") for uri in thumbnails.uris.values())


def test_thumbnails_keep_the_aspect_ratio_and_deduplicate() -> None:
    thumbnails = Thumbnails(10, width=128)
    flat = np.zeros((3, 300, 200), np.uint8)
    small = thumbnails.add(flat)
    assert (small.width, small.height) == (128, 192)
    large = thumbnails.add(photograph(0, 512))
    assert (large.width, large.height) == (128, 128)
    again = thumbnails.add(flat.copy())
    assert again == small
    assert len(thumbnails.uris) == 2
    close = decoded(thumbnails.uris[large.key]).astype(float) - 255 * photograph(0, 512).mean((1, 2))
    assert abs(close.mean((0, 1))).max() < 3
