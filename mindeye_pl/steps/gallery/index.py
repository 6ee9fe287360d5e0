"""The gallery that a run searches: what it is made of, its embedded vectors, and the index over them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.nsd.stimuli import Stimuli
from mindeye_pl.data.nsd.test_set import load_tested_trials
from mindeye_pl.engine.step import Run, Step
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.coarse import coarse_vector
from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.image_sources import FileGallery
from mindeye_pl.gallery.index import MANIFEST, IndexManifest, VectorIndex, fill
from mindeye_pl.gallery.opening import open_gallery
from mindeye_pl.gallery.source import Gallery, Joined, Selected
from mindeye_pl.gallery.vector_table import VectorTable
from mindeye_pl.schema.nodes.run import SKIP
from mindeye_pl.steps.inputs.frozen_models import identity
from mindeye_pl.steps.inputs.simulate import data_steps, images_fingerprint, layout
from mindeye_pl.steps.inputs.splits import is_image_wise, left_out_images, split_identity
from mindeye_pl.steps.inputs.targets import embed_tokens
from mindeye_pl.store.artifacts import ArtifactSpec
from mindeye_pl.store.fingerprint import fingerprint_file

#: A gallery's fingerprint follows from files, whatever size their images are brought to.
_ANY_SIDE = 1


def coarse_run(run: Run) -> Run:
    """The run of the model that the coarse search asks: this one, or another by the overrides of `retrieve.coarse`."""
    more = list(run.config.retrieve.coarse)
    return run.with_overrides(more) if more else run


def coarse_vectors(run: Run) -> Callable[[Tensor], Tensor]:
    """From tokens `(B, S, D)` to the vectors `(B, F)` of the coarse search."""
    settings = run.config.retrieve
    return coarse_vector(settings.vector, settings.width, settings.projection_seed)


def vector_settings(run: Run) -> dict[str, Any]:
    """What determines a vector beside the embedder."""
    settings = run.config.retrieve
    projected = {"width": settings.width, "seed": settings.projection_seed}
    return {"kind": settings.vector, **(projected if settings.vector == "projected" else {})}


def embedder_identity(run: Run) -> dict[str, Any]:
    """What identifies the embedder of the coarse search, its `name` among it."""
    return identity(coarse_run(run), "embedder")["embedder"]


def skips_unreadable(run: Run) -> bool:
    """Return true if images that cannot be read are left out."""
    return run.config.retrieve.unreadable == SKIP


def open_run_gallery(run: Run) -> Gallery:
    """The gallery of `retrieve.gallery`, its images brought to the side of the data's own.

    The seen images stand behind those of a gallery of the user's, where `retrieve.with_seen` asks for them.

    Raises:
        UserError: as `opening.open_gallery`.
    """
    settings, stimuli = run.config.retrieve, layout(run).stimuli
    own = FileGallery(stimuli)
    if settings.gallery is None:
        return own
    gallery = open_gallery(Path(settings.gallery), min(Stimuli(stimuli).shape[-2:]), settings.source)
    return Joined([gallery, Selected(own, _seen(run))]) if settings.with_seen else gallery


def true_places(run: Run, gallery: Gallery, stimulus_ids: np.ndarray) -> np.ndarray | None:
    """Where the seen images are in the gallery, `(n,)` int64 for `(n,)` stimulus ids; None if they are not."""
    if run.config.retrieve.gallery is None:
        return stimulus_ids
    if not isinstance(gallery, Joined):
        return None
    return gallery.starts[-2] + np.searchsorted(_seen(run), stimulus_ids)


def _seen(run: Run) -> np.ndarray:
    """Stimulus ids of the test images, ascending; of the standard split's, whatever cluster alone is tested."""
    config = run.config
    which = (layout(run), config.data.subject, config.data.test_split, Path(config.paths.cache))
    left_out = left_out_images(run) if is_image_wise(run) else None
    return np.unique(load_tested_trials(*which, left_out).stimulus_ids)


def gallery_inputs(run: Run) -> dict[str, str]:
    """The fingerprints of what the gallery is made of, the world still to be simulated among it."""
    settings = run.config.retrieve
    inputs = {"images": images_fingerprint(run)}
    if settings.gallery is not None:
        inputs["gallery"] = open_gallery(Path(settings.gallery), _ANY_SIDE, settings.source).fingerprint()
    return inputs


def _embed_spec(run: Run) -> ArtifactSpec:
    settings = run.config.retrieve
    by = {"embedder": embedder_identity(run), "vector": vector_settings(run)}
    if settings.gallery is not None and settings.with_seen:
        by |= run.plain("data.subject", "data.test_split") | split_identity(run)
        by |= run.plain("data.split") if is_image_wise(run) else {}
    name = "stimuli" if settings.gallery is None else Path(settings.gallery).stem
    label = f"{name}-{by['embedder']['name']}-{settings.vector}"
    return ArtifactSpec("embed_gallery", label, by, gallery_inputs(run))


def _embed(run: Run, folder: Path) -> None:
    coarse, reduce, gallery = coarse_run(run), coarse_vectors(run), open_run_gallery(run)
    embed = embed_tokens(coarse, run.device)

    def vectors(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return reduce(embed(torch.from_numpy(images).float().to(run.device)).float()).cpu().numpy()

    if isinstance(table := _table(gallery), VectorTable):
        side = coarse.config.embedder
        nothing = torch.zeros(1, side.num_tokens, side.token_dim)
        table.check(side.name, reduce(nothing).shape[1])
    console.print(f"embedding a gallery of {len(gallery):,} with embedder={coarse.config.embedder.name}")
    batch_size = run.config.retrieve.batch_size
    embed_gallery(gallery, folder, vectors, batch_size=batch_size, skip_unreadable=skips_unreadable(run))


def _table(gallery: Gallery) -> Gallery:
    """The user's own part of a gallery."""
    return gallery.parts[0] if isinstance(gallery, Joined) else gallery


EMBED_GALLERY = Step("embed_gallery", _embed_spec, data_steps, _embed)


def _index_spec(run: Run) -> ArtifactSpec:
    by = run.plain("index.name", "index.build")
    inputs = {"embed_gallery": run.spec(EMBED_GALLERY).fingerprint}
    kind = by["index.build"].get("kind") or by["index.build"].get("index_type")
    return ArtifactSpec("build_index", f"{by['index.name']}-{kind}-{run.spec(EMBED_GALLERY).label}".lower(), by, inputs)


def _build_index(run: Run, folder: Path) -> None:
    gallery = EmbeddedGallery(run.make(EMBED_GALLERY).folder)
    console.print(f"indexing {len(gallery):,} vectors of width {gallery.dim} with index={run.config.index.name}")
    index: VectorIndex = instantiate(run.config.index.engine)(folder, gallery.dim)
    try:
        fill(index, gallery)
        manifest = IndexManifest(
            **_asked(run), build=run.plain("index.build")["index.build"], dim=gallery.dim, count=len(index)
        )
    finally:
        index.close()
    manifest.write(folder)


def _asked(run: Run) -> dict[str, Any]:
    """What an index has to be to be searched by this run."""
    return {
        "engine": run.config.index.name,
        "embedder": embedder_identity(run),
        "vector": vector_settings(run),
        "gallery": run.spec(EMBED_GALLERY).fingerprint,
    }


BUILD_INDEX = Step("build_index", _index_spec, lambda run: (EMBED_GALLERY,), _build_index)


def index_steps(run: Run) -> Sequence[Step]:
    """The step that builds the index; none where the user brings one."""
    return (BUILD_INDEX,) if run.config.index.folder is None else ()


def given_index(run: Run) -> Path | None:
    """The folder of the index that the user brings, looked at.

    Raises:
        UserError: if it is no index, or was built by another embedder, in another way or from another gallery.
    """
    if run.config.index.folder is None:
        return None
    folder = Path(run.config.index.folder)
    IndexManifest.read(folder).check(folder, **_asked(run))
    return folder


def index_fingerprints(run: Run) -> dict[str, str]:
    """What identifies the index as an input: the step's fingerprint, or that of a given one's manifest."""
    if (folder := given_index(run)) is not None:
        return {"index": fingerprint_file(folder / MANIFEST)}
    return {"build_index": run.spec(BUILD_INDEX).fingerprint}


def open_index(run: Run) -> tuple[VectorIndex, IndexManifest]:
    """The index of this run, built now where it is missing, with its manifest.

    Raises:
        UserError: as `given_index`; if Milvus does not answer, or holds another number of vectors than it did.
    """
    folder = given_index(run) or run.make(BUILD_INDEX).folder
    manifest = IndexManifest.read(folder)
    index = instantiate(run.config.index.engine)(folder, manifest.dim, build=instantiate(manifest.build))
    if len(index) != manifest.count:
        raise UserError(
            f"{folder} is not whole",
            got=f"{len(index):,} vectors",
            expected=f"{manifest.count:,}",
            fix=f"rm -r {folder}, and run again",
        )
    return index, manifest
