"""Retrieval from a gallery, end to end by the command line: recall, page, every source, bad input."""

import importlib.util
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_tensors

from mindeye_pl.metrics.retrieval import cosine_similarity
from mindeye_pl.nn.clip.clip_embedder import random_embedder
from tests.conftest import CommandLine
from tests.gallery.made import images, write_folder, write_tar

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "pipeline=retrieve", "logger=none")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def retrieved(outputs: Path, which: int = -1) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    folders = sorted((outputs / "artifacts" / "retrieve").glob("subj*"), key=lambda path: path.stat().st_mtime)
    folder = folders[which]
    return json.loads((folder / "recall.json").read_text()), load_file(folder / "found.safetensors")


def world(outputs: Path) -> np.ndarray:
    """All images of the tiny world, `(226, 3, 32, 32)`."""
    (path,) = (outputs / "artifacts" / "simulate").glob("tiny*/coco_images_224_float16.hdf5")
    with h5py.File(path) as file:
        return file["images"][:]


def tokens_of(rows: np.ndarray) -> torch.Tensor:
    """Tokens `(n, 4, 16)` of the tiny embedder, by itself."""
    embedder = random_embedder(0, image_size=32, num_tokens=4, token_dim=16, layers=1, heads=2)
    with torch.inference_mode():
        return embedder(torch.from_numpy(rows).float())


def evaluated(outputs: Path) -> torch.Tensor:
    """The retrieval embeddings of the finished run, `(10, 4, 16)`."""
    (path,) = (outputs / "artifacts" / "evaluate").glob("subj*/predictions.safetensors")
    return load_tensors(path)["retrieval"].float()


def recall_at(content: dict[str, Any], line: str) -> dict[str, float]:
    return {score["name"].rpartition("_")[2]: score["value"] for score in content["rows"][line]}


def test_retrieval_of_all_images_equals_a_full_sort(cli: CommandLine, finished: Path) -> None:
    """The exact index over flattened tokens orders the gallery as a full sort of all cosines does."""
    code, out, err = cli(*COMMAND, "retrieve.top_k=50")
    assert code == 0, err
    for words in ("embedding a gallery of 226", "Gallery retrieval (simulated)", "coarse search", "re-ranked", "own"):
        assert words in out
    content, found = retrieved(finished)
    assert (content["pool_size"], content["top_k"], content["simulated"]) == (226, 50, True)
    similarity = cosine_similarity(query=evaluated(finished), gallery=tokens_of(world(finished)))
    best = similarity.topk(50).values.numpy()
    np.testing.assert_allclose(found["coarse_similarity"], best, atol=2e-3)  # the evaluation is kept in half precision
    np.testing.assert_allclose(found["similarity"], best, atol=2e-3)
    np.testing.assert_array_equal(found["truth"], found["stimulus_ids"])
    own = similarity[torch.arange(10), torch.from_numpy(found["truth"])]
    rank = 1 + (similarity > own[:, None]).sum(1)
    for line in ("coarse", "reranked"):
        assert recall_at(content, line) == {str(k): float((rank <= k).double().mean()) for k in (1, 5, 10, 50)}
    assert set(recall_at(content, "own_vector").values()) == {1.0}
    chances = [score["chance"] for score in content["rows"]["coarse"]]
    assert chances == pytest.approx([1 / 226, 5 / 226, 10 / 226, 50 / 226])

    page = (finished / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert "Gallery retrieval (simulated)" in page
    assert page.count(' alt="Seen, stimulus ') == 10
    assert 'src="http' not in page
    before = cli.artifacts()
    code, again, _ = cli(*COMMAND, "retrieve.top_k=50")
    assert code == 0
    assert "retrieve: cached" in again
    assert cli.artifacts() == before


@pytest.mark.slow
def test_re_ranking_orders_what_a_poor_vector_found_by_all_tokens(cli: CommandLine, finished: Path) -> None:
    options = ("retrieve.vector=projected", "retrieve.width=8", "retrieve.top_k=40", "retrieve.batch_size=7")
    assert cli(*COMMAND, *options, "index.build.kind=hnsw")[0] == 0
    content, found = retrieved(finished)
    assert content["vector"] == {"kind": "projected", "width": 8, "seed": 0}
    similarity = cosine_similarity(query=evaluated(finished), gallery=tokens_of(world(finished))).numpy()
    np.testing.assert_array_equal(np.sort(found["places"], 1), np.sort(found["coarse_places"], 1))
    np.testing.assert_allclose(found["similarity"], np.take_along_axis(similarity, found["places"], 1), atol=2e-3)
    assert (np.diff(found["similarity"], axis=1) <= 0).all()
    assert not np.array_equal(found["places"], found["coarse_places"])
    assert recall_at(content, "reranked")["40"] == recall_at(content, "coarse")["40"]


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_a_users_gallery_with_the_seen_images(kind: str, cli: CommandLine, finished: Path) -> None:
    """The seen images stand behind the gallery; an unreadable image is refused by name, then left out when asked."""
    root = cli.outputs.parent / "mine"
    if kind == "folder":
        write_folder(root, images(30))
        (root / "part-1" / "007.png").write_bytes(b"no image")
        name, skipped = "part-1/007.png", 1
    else:
        write_tar(root / "a.tar", images(20))
        write_tar(root / "b.tar", images(10, seed=1))
        name, skipped = "", 0
    mine = (*COMMAND, f"retrieve.gallery={root}", "retrieve.top_k=12")
    if skipped:
        cli.refuses(*mine, says=(name, "retrieve.unreadable=skip"))
    code, out, err = cli(*mine, "retrieve.unreadable=skip")
    assert code == 0, err
    assert ("skipped 1 unreadable: part-1/007.png" in out) == bool(skipped)
    content, found = retrieved(finished)
    assert content["pool_size"] == 40 - skipped
    assert found["truth"].tolist() == list(range(30, 40))
    assert recall_at(content, "own_vector")["1"] == 1
    if skipped:  # what was left out once is not used unasked
        cli.refuses(*mine, says=(name, "retrieve.unreadable=skip"))


def test_a_gallery_without_the_seen_images_has_a_page_and_no_scores(cli: CommandLine, finished: Path) -> None:
    root = write_folder(cli.outputs.parent / "mine", images(12))
    code, _, err = cli(*COMMAND, f"retrieve.gallery={root}", "retrieve.with_seen=false", "retrieve.top_k=6")
    assert code == 0, err
    content, found = retrieved(finished)
    assert (content["rows"], content["pool_size"]) == ({}, 12)
    assert "truth" not in found
    page = (finished / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    assert "not in the gallery" in page
    assert "part-0/000.png" in page


@pytest.mark.slow
def test_a_table_of_vectors(cli: CommandLine, finished: Path) -> None:
    table = cli.outputs.parent / "table.npy"
    rows = world(finished)
    np.save(table, tokens_of(rows).flatten(1).numpy())
    mine = (*COMMAND, f"retrieve.gallery={table}")
    cli.refuses(*mine, says=("re-ranking reads images", "retrieve.rerank=false"))
    code, out, err = cli(*mine, "retrieve.rerank=false", "retrieve.with_seen=false", "retrieve.top_k=20")
    assert code == 0, err
    assert "the embedder is unknown" in out
    own = retrieved(finished)[1]
    assert cli(*COMMAND, "retrieve.top_k=20")[0] == 0
    np.testing.assert_array_equal(own["coarse_places"], retrieved(finished)[1]["coarse_places"])
    cli.refuses(*mine, "retrieve.rerank=false", "retrieve.vector=mean_of_tokens", says=("another width", "16"))
    table.with_suffix(".json").write_text('{"embedder": "openclip_l"}')
    for index in (finished / "artifacts" / "embed_gallery").glob("table*"):
        shutil.rmtree(index)
    cli.refuses(*mine, "retrieve.rerank=false", "seed=1", says=("another embedder", "openclip_l"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pymilvus") is None, reason="needs pip install -e .[milvus]")
def test_milvus_finds_the_same(cli: CommandLine, finished: Path) -> None:
    options = (*COMMAND, "retrieve.top_k=20")
    assert cli(*options)[0] == 0
    exact = retrieved(finished)[1]
    code, out, err = cli(*options, "index=milvus", "index.build.index_type=FLAT")
    assert code == 0, err
    assert "by index=milvus" in out
    np.testing.assert_array_equal(retrieved(finished)[1]["coarse_places"], exact["coarse_places"])
    cli.refuses(
        *options, "index=milvus", "index.build.uri=http://127.0.0.1:1", "index.engine.timeout_s=2",
        says=("Milvus at http://127.0.0.1:1 is not reachable", "index=faiss", "finished parts stay"),
    )  # fmt: skip


@pytest.mark.slow
def test_a_users_index_is_used_or_refused_by_name(cli: CommandLine, finished: Path) -> None:
    assert cli(*COMMAND, "retrieve.top_k=20")[0] == 0
    (built,) = (finished / "artifacts" / "build_index").glob("faiss*")
    copy = cli.outputs.parent / "index"
    shutil.copytree(built, copy)
    shutil.rmtree(built)
    given = (*COMMAND, "retrieve.top_k=20", f"index.folder={copy}")
    first = retrieved(finished)[1]
    assert cli(*given)[0] == 0
    assert not list((finished / "artifacts" / "build_index").glob("faiss*")), "none was built"
    np.testing.assert_array_equal(retrieved(finished)[1]["places"], first["places"])
    cli.refuses(*given, "embedder.network.seed=1", says=("was built by another embedder", "embedder=tiny"))
    cli.refuses(*given, "retrieve.vector=mean_of_tokens", says=("holds other vectors",))
    cli.refuses(
        *given, f"retrieve.gallery={write_folder(cli.outputs.parent / 'p', images(2))}", says=("another gallery",)
    )
    cli.refuses(*COMMAND, f"index.folder={finished}", says=("holds no index", "index.folder=null"))


@pytest.mark.slow
def test_the_class_token_model_searches_and_the_token_model_re_ranks(cli: CommandLine, finished: Path) -> None:
    """As published: two models, the coarse one of a single token."""
    options = (*COMMAND, "retrieve.vector=class_token", "retrieve.top_k=30")
    cli.refuses(*options, says=("class token alone", "4 tokens", "retrieve.coarse="))
    code, out, err = cli(*options, "retrieve.coarse=['embedder.num_tokens=1']")
    assert code == 0, err
    assert out.count("fine-tuning subject 1") == 1, "the coarse model; the other was finished"
    content, found = retrieved(finished)
    assert content["vector"] == {"kind": "class_token"}
    similarity = cosine_similarity(query=evaluated(finished), gallery=tokens_of(world(finished))).numpy()
    np.testing.assert_allclose(found["similarity"], np.take_along_axis(similarity, found["places"], 1), atol=2e-3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["retrieve.gallery=/nowhere"], ("the gallery does not exist", "/nowhere")),
        (["retrieve.source=zip", "retrieve.gallery=."], ("retrieve.source", "folder", "Fix: retrieve.source=")),
        (["retrieve.vector=best"], ("retrieve.vector", "mean_of_tokens")),
        (["retrieve.gallery=EMPTY"], ("image folder is missing or empty",)),
        (["retrieve.gallery=TABLE"], ("re-ranking reads images", "retrieve.rerank=false")),
        (["retrieve.gallery=TABLE", "retrieve.rerank=false"], ("vectors of another width", "got: 8; expected: 64")),
        (["retrieve.gallery=NAMED", "retrieve.rerank=false"], ("belongs to another embedder", "got: openclip_l")),
        (["retrieve.gallery=SHARD"], ("the gallery is empty", "no image in 1 tar shards")),
        (["retrieve.vector=class_token"], ("class token alone", "got: 4 tokens")),
    ],
)
def test_refusals_before_the_first_step(options: list[str], says: tuple[str, ...], cli: CommandLine) -> None:
    paths = {name: cli.outputs.parent / f"gallery_{name.lower()}" for name in ("EMPTY", "TABLE", "NAMED", "SHARD")}
    paths["EMPTY"].mkdir()
    for name, width in (("TABLE", 8), ("NAMED", 64)):
        paths[name] = paths[name].with_suffix(".npy")
        np.save(paths[name], np.ones((3, width), np.float32))
    paths["NAMED"].with_suffix(".json").write_text('{"embedder": "openclip_l"}')
    paths["SHARD"] = paths["SHARD"].with_suffix(".tar")
    tarfile.open(paths["SHARD"], "w").close()
    for name, path in paths.items():
        options = [option.replace(name, str(path)) for option in options]
    cli.refuses(*COMMAND, *options, says=says)
    assert not cli.artifacts()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
def test_the_page_in_a_browser(cli: CommandLine, finished: Path) -> None:
    """Images show, the seen one is marked, rows sort by its rank, and nothing is fetched."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
    assert cli(*COMMAND, "retrieve.top_k=100")[0] == 0
    page_path = finished / "reports" / "finetune_subj01_1h" / "index.html"
    found = retrieved(finished)[1]
    ranks = [np.flatnonzero(places == true) for places, true in zip(found["places"], found["truth"], strict=True)]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        wrong: list[str] = []
        fetched: list[str] = []
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(page_path.as_uri())
        table = "#found-in-the-gallery-table"
        images = page.locator(f"{table} img").evaluate_all("all => all.map(image => image.naturalWidth)")
        assert len(images) == 10 * 6
        assert min(images) == 32
        marked = page.locator(f"{table} td.marked").count()
        assert marked == sum(len(rank) > 0 and rank[0] < 5 for rank in ranks)
        page.click(f"{table} [data-order=best]")
        first = page.locator(f"{table} tbody.row").first.get_attribute("data-name")
        known = {
            f"stimulus {id_}": rank[0] for id_, rank in zip(found["stimulus_ids"], ranks, strict=True) if len(rank)
        }
        assert known[first] == min(known.values())
        assert page.locator("text=not among the first 100 of 226").count() == 10 - len(known)
        page.locator(f"{table} button.image").first.click()
        assert page.locator("dialog[open] figure").count() == 6
        browser.close()
    assert wrong == []
    assert [url for url in fetched if not url.startswith("data:")] == [page_path.as_uri()]
