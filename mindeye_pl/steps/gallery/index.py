"""The embedded vectors of the gallery that a run searches, and the index over them.

Legend: B batch, S tokens, D token width, F vector width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import DATA, EMBEDDINGS, FingerprintOf, Input, Inputs, Made, Step, WithOverrides, Work
from mindeye_pl.errors import UserError
from mindeye_pl.gallery.coarse import VECTORS
from mindeye_pl.gallery.embedded import EmbeddedGallery, embed_gallery
from mindeye_pl.gallery.faiss_index import CODED
from mindeye_pl.gallery.files import VectorTable
from mindeye_pl.gallery.index import MANIFEST, IndexManifest, SearchedIndex, VectorIndex, fill
from mindeye_pl.gallery.refined import RefinedIndex
from mindeye_pl.gallery.source import Joined
from mindeye_pl.schema.nodes.run import SKIP
from mindeye_pl.steps.gallery.searched import RunGallery, given_table
from mindeye_pl.steps.inputs.frozen_models import Frozen
from mindeye_pl.steps.inputs.image_embeddings import token_embedder
from mindeye_pl.store.fingerprint import fingerprint_file


def of_coarse_model(config: DictConfig, one: Input) -> Input:
    """Return an input of the coarse search's model: this run's, or another by the overrides of `retrieve.coarse`."""
    overrides = tuple(config.retrieve.coarse)
    return WithOverrides(overrides, one) if overrides else one


def vector_settings(settings: DictConfig) -> dict[str, Any]:
    """Return what determines a vector beside the embedder, from the node `retrieve`."""
    projected = {"width": settings.width, "seed": settings.projection_seed}
    return {"kind": settings.vector, **(projected if settings.vector == "projected" else {})}


def vector_of(settings: DictConfig) -> Callable[[Tensor], Tensor]:
    """Return the function of tokens `(B, S, D)` to vectors `(B, F)`, from the node `retrieve`."""
    return VECTORS[settings.vector](settings.width, settings.projection_seed)


@dataclass(frozen=True)
class GalleryEmbedder(Frozen):
    """The embedder of the gallery; refuses, before the first step, a table of vectors that another one has made."""

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check the files, and the user's table of vectors."""
        super().check(config, parts)
        _check_table(given_table(config), config.embedder, config.retrieve)


def _check_table(table: VectorTable | None, embedder: DictConfig, settings: DictConfig) -> None:
    """Check that the nodes `embedder` and `retrieve` make vectors as those of the table."""
    tokens = torch.zeros(1, embedder.num_tokens, embedder.token_dim)
    width = vector_of(settings)(tokens).shape[1]
    if table is not None:
        table.check(embedder.name, width)


class EmbedGallery(Step):
    """Embeds every image of the gallery as one vector."""

    name = "embed_gallery"
    title = "Gallery vectors"
    runtime_keys = ("retrieve",)
    artifact_type = EMBEDDINGS

    def label(self, config: DictConfig) -> str:
        """Return gallery, embedder and vector."""
        settings = config.retrieve
        name = "stimuli" if settings.gallery is None else Path(settings.gallery).stem
        return f"{name}-{'coarse' if settings.coarse else config.embedder.name}-{settings.vector}"

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the gallery and the embedder."""
        return {"gallery": RunGallery(), "embedder": of_coarse_model(config, GalleryEmbedder("embedder"))}

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what determines a vector beside the embedder."""
        return {"vector": vector_settings(config.retrieve)}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Write the vectors, resuming behind those that are there."""
        wanted, gallery, embedder = settings.retrieve, inputs["gallery"].gallery, inputs["embedder"]
        embed, reduce = token_embedder(embedder, embedder.device), vector_of(wanted)

        def vectors(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return reduce(embed(torch.from_numpy(images).float().to(embedder.device)).float()).cpu().numpy()

        table = gallery.parts[0] if isinstance(gallery, Joined) else gallery
        if isinstance(table, VectorTable):
            _check_table(table, embedder.settings, wanted)
            if not table.description.is_file():
                what = f"{table.path}: the embedder is unknown; {table.description.name} would name it"
                console.print(what, markup=False)
        console.print(f"embedding a gallery of {len(gallery):,} with embedder={embedder.name}")
        skips = wanted.unreadable == SKIP
        embed_gallery(gallery, work.folder, vectors, batch_size=wanted.batch_size, skip_unreadable=skips)


EMBED_GALLERY = EmbedGallery()


@dataclass(frozen=True)
class IndexQuestion(Input):
    """Requirements of an index that the run searches; opened, the arguments of `IndexManifest.check`."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the embedder, and the fingerprint of the vectors."""
        return {"embedder": of_coarse_model(config, Frozen("embedder")), "gallery": FingerprintOf(EMBED_GALLERY)}

    def open(self, config: DictConfig, parts: Inputs) -> dict[str, Any]:
        """Return engine, embedder, vector and gallery."""
        vector, embedder = vector_settings(config.retrieve), parts["embedder"].identity
        return {"engine": config.index.name, "embedder": embedder, "vector": vector, "gallery": parts["gallery"]}


class BuildIndex(Step):
    """Builds the index over the vectors."""

    name = "build_index"
    title = "Gallery index"
    version = 2
    keys = ("index.name", "index.build")
    runtime_keys = ("index",)
    artifact_type = DATA

    def label(self, config: DictConfig) -> str:
        """Return engine, kind and gallery."""
        build = config.index.build
        kind = build.get("kind") or build.get("index_type")
        return f"{config.index.name}-{kind}-{EMBED_GALLERY.label(config)}".lower()

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the vectors."""
        return {"vectors": Made(EMBED_GALLERY), "question": IndexQuestion()}

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Add the vectors that the index lacks, and write its manifest last."""
        wanted, gallery = settings.index, EmbeddedGallery(inputs["vectors"])
        console.print(f"indexing {len(gallery):,} vectors of width {gallery.dim} with index={wanted.name}")
        index: VectorIndex = instantiate(wanted.engine)(work.folder, gallery.dim)
        try:
            fill(index, gallery)
            build: Any = OmegaConf.to_container(wanted.build)
            plain = {key: value for key, value in build.items() if not key.startswith("_")}  # names no code
            manifest = IndexManifest(**inputs["question"], build=plain, dim=gallery.dim, count=len(index))
        finally:
            index.close()
        manifest.write(work.folder)


BUILD_INDEX = BuildIndex()


@dataclass(frozen=True)
class GivenIndex(Input):
    """A finished index of the user's; opened, its folder."""

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return what is required of it."""
        return {"question": IndexQuestion()}

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of its manifest; a folder without one is refused."""
        IndexManifest.read(folder := Path(config.index.folder))
        return fingerprint_file(folder / MANIFEST)

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check that it was built by this embedder, in this way and from this gallery."""
        manifest = IndexManifest.read(folder := Path(config.index.folder))
        manifest.check(folder, **parts["question"])
        manifest.check_address(folder, config.index.build.get("uri"))

    def open(self, config: DictConfig, parts: Inputs) -> Path:
        """Return the folder, checked."""
        self.check(config, parts)
        return Path(config.index.folder)


def refine_factor(settings: DictConfig) -> int:
    """Return the number of candidates for each result that are sorted by exact cosines, from the node `index`.

    It is 1 for an index whose cosines are exact already. Raises a UserError if `index.folder` holds no index.
    """
    build = settings.build if settings.folder is None else IndexManifest.read(Path(settings.folder)).build
    return int(settings.search.get("refine_factor", 1)) if build.get("kind") == CODED else 1


def open_index(
    folder: Path, settings: DictConfig, vectors: EmbeddedGallery | None
) -> tuple[SearchedIndex, IndexManifest]:
    """Return a finished index with its manifest, from the node `index`; the folder may come from somebody else.

    Args:
        folder: of the index.
        settings: the node `index`.
        vectors: of the gallery, by which candidates are sorted where `refine_factor` is above 1.

    Raises:
        UserError: if Milvus does not answer, or the index holds another number of vectors than it did.
    """
    manifest = IndexManifest.read(folder)
    manifest.check_address(folder, settings.build.get("uri"))
    build: Any = manifest.build_settings(folder, get_class(settings.build._target_))
    index: SearchedIndex = instantiate(settings.engine)(folder, manifest.dim, build=build)
    if len(index) != manifest.count:
        raise UserError(
            f"{folder} is not whole",
            got=f"{len(index):,} vectors",
            expected=f"{manifest.count:,}",
            fix=f"rm -r {folder}, and run again",
        )
    if (factor := refine_factor(settings)) > 1:
        assert vectors is not None
        index = RefinedIndex(index, vectors, factor)
    return index, manifest
