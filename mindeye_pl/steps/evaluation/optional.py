"""Optional parts of an evaluation: networks, text embedders and WordNet, scored where their files are here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindeye_pl.data.simulated.vocabulary import tokenize_captions
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.step import CHECKPOINT, MISSING, Input
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

    artifact_type = CHECKPOINT

    @property
    def frozen(self) -> Frozen:
        """The network as an optional model."""
        return Frozen(f"features.{self.name}", optional=True)

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of settings and files, `MISSING` where a file is."""
        return self.frozen.fingerprint(run)

    def open(self, run: Run) -> FrozenModel | Lacking:
        """Return the network, not loaded yet."""
        if (need := self.frozen.need(run)) is not None:
            return Lacking(need)
        found = self.frozen.open(run)
        assert found is not None
        return found


@dataclass(frozen=True)
class TextNetwork(Input):
    """A text embedder of a protocol; opened, it or `Lacking`.

    Attributes:
        name: in `conf/weights`, or `LAPTOP`.
    """

    name: str

    artifact_type = CHECKPOINT

    def _path(self, run: Run) -> Path | None:
        if self.name == LAPTOP:
            return Path(run.config.foundation.folder or bundled.SHIPPED) / bundled.CLIP
        return find_weights(run.config.weights[self.name], weights_folder(run.config))

    def fingerprint(self, run: Run) -> str:
        """Return the fingerprint of the file, `MISSING` where it is."""
        path = self._path(run)
        return MISSING if path is None or not path.is_file() else fingerprint_file(path)

    def open(self, run: Run) -> TextEmbedder | Lacking:
        """Return the embedder."""
        if self.name == LAPTOP:
            return bundled.load_text_embedder(run.config.foundation.folder, tokenize_captions=tokenize_captions)
        released, path = run.config.weights[self.name], self._path(run)
        if path is None:
            return Lacking(needed(released))
        load = load_sentence_embedder if self.name == "minilm" else load_clip_text
        return load(path, repository=released.repository)


@dataclass(frozen=True)
class WordNetFiles(Input):
    """WordNet, which METEOR needs; opened, it or `Lacking`."""

    def fingerprint(self, run: Run) -> str:
        """Return whether it is here."""
        return MISSING if missing_wordnet_message() else "present"

    def open(self, run: Run) -> Any:
        """Return WordNet."""
        lacking = missing_wordnet_message()
        return Lacking(lacking) if lacking else read_wordnet()
