"""Optional parts of an evaluation: networks, text embedders and WordNet, scored where their files are here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mindeye_pl.data.simulated.vocabulary import tokenize_names
from mindeye_pl.engine.step import CHECKPOINT, MISSING, Input, Inputs
from mindeye_pl.metrics.captions.meteor import missing_wordnet_message, read_wordnet
from mindeye_pl.metrics.captions.similarity import TextEmbedder
from mindeye_pl.steps.inputs.frozen_models import Frozen, FrozenModel, weights_folder
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.weights.loaders import bundled
from mindeye_pl.weights.loaders.text_embedders import load_clip_text, load_sentence_embedder
from mindeye_pl.weights.locate import find_weights, needed

#: The text tower of the bundled CLIP.
LAPTOP = "laptop_text"


@dataclass(frozen=True)
class Lacking:
    """An optional input whose files are not here.

    Attributes:
        needs: the files, and the command that brings them, in place of the scores.
    """

    needs: str


@dataclass(frozen=True)
class FeatureNetwork(Input):
    """A feature network of a protocol; opened, a `FrozenModel`, or `Lacking`.

    Attributes:
        name: in `conf/features`.
    """

    name: str

    def parts(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the network as an optional model."""
        return {self.name: self._frozen}

    def open(self, config: DictConfig, parts: Inputs) -> FrozenModel | Lacking:
        """Return the network, not loaded yet."""
        need = self._frozen.need(config)
        return parts[self.name] if need is None else Lacking(need)

    @property
    def _frozen(self) -> Frozen:
        return Frozen(f"features.{self.name}", optional=True)


@dataclass(frozen=True)
class TextNetwork(Input):
    """A text embedder of a protocol; opened, it or `Lacking`.

    Attributes:
        name: in `conf/weights`, or `LAPTOP`.
    """

    name: str

    artifact_type = CHECKPOINT

    def _path(self, config: DictConfig) -> Path | None:
        if self.name == LAPTOP:
            return Path(config.foundation.folder or bundled.SHIPPED) / bundled.CLIP
        return find_weights(config.weights[self.name], weights_folder(config))

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the file, `MISSING` where it is."""
        path = self._path(config)
        return MISSING if path is None or not path.is_file() else fingerprint_file(path)

    def open(self, config: DictConfig, parts: Inputs) -> TextEmbedder | Lacking:
        """Return the embedder."""
        if self.name == LAPTOP:
            return bundled.load_text_embedder(config.foundation.folder, tokenize_captions=tokenize_names)
        released, path = config.weights[self.name], self._path(config)
        if path is None:
            return Lacking(needed(released))
        load = load_sentence_embedder if self.name == "minilm" else load_clip_text
        return load(path, repository=released.repository)


@dataclass(frozen=True)
class WordNetFiles(Input):
    """WordNet, which METEOR needs; opened, it or `Lacking`."""

    def fingerprint(self, config: DictConfig) -> str:
        """Return whether it is here."""
        return MISSING if missing_wordnet_message() else "present"

    def open(self, config: DictConfig, parts: Inputs) -> Any:
        """Return WordNet."""
        lacking = missing_wordnet_message()
        return Lacking(lacking) if lacking else read_wordnet()
