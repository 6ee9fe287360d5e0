"""Galleries for several tests: images on disk in every form, and small embedded galleries."""

import io
import tarfile
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.files import VectorTable

SIDE = 16


def images(count: int, seed: int = 0) -> np.ndarray:
    """`(count, SIDE, SIDE, 3)` uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def as_floats(rows: np.ndarray) -> np.ndarray:
    """The same as galleries give them, `(count, 3, SIDE, SIDE)` float16."""
    return (rows.astype(np.float32) / 255).astype(np.float16).transpose(0, 3, 1, 2)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def write_folder(root: Path, rows: np.ndarray) -> Path:
    for number, pixels in enumerate(rows):
        path = root / f"part-{number % 2}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    return root


def write_tar(path: Path, rows: np.ndarray, first: int = 0) -> Path:
    """A shard as webdataset writes it: a caption beside each image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, pixels in enumerate(rows, first):
            for name, content in ((f"{number:06d}.png", png(pixels)), (f"{number:06d}.txt", b"a caption")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def write_hdf5(path: Path, rows: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["images"] = as_floats(rows)
    return path


def clustered(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    """Vectors around thirty centres, `(count, width)` float32."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((30, width))
    return (centres[rng.integers(0, 30, count)] + 0.5 * rng.standard_normal((count, width))).astype(np.float32)


def embedded(folder: Path, vectors: np.ndarray) -> EmbeddedGallery:
    """An embedded gallery that holds these vectors."""
    folder.mkdir(parents=True)
    np.save(folder / "table.npy", vectors)
    table = VectorTable(folder / "table.npy")
    embed_gallery(table, folder, np.asarray, batch_size=1000, skip_unreadable=False)
    return EmbeddedGallery(folder)


def exact(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and places of the nearest, by a full sort in float64 of what the gallery keeps in half precision."""
    kept, asked = ((x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (vectors, queries))
    kept = kept.astype(np.float16).astype(np.float64)
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    cosines = asked.astype(np.float64) @ kept.T
    places = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(cosines, places, 1), places


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, true, strict=True)]))
