"""A checkpoint that the user brings."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.engine.step import CHECKPOINT, Input, Inputs
from mindeye_pl.training.checkpoints import check_whole, checkpoint_fingerprint


@dataclass(frozen=True)
class CheckpointFile(Input):
    """A checkpoint that the user brings; opened, its path."""

    option: str  # dotted key of the configuration that names it

    artifact_type = CHECKPOINT

    def fingerprint(self, config: DictConfig) -> str:
        """Return the fingerprint of the file, or of the folder that DeepSpeed saved."""
        return checkpoint_fingerprint(self.option, Path(OmegaConf.select(config, self.option)))

    def check(self, config: DictConfig, parts: Inputs) -> None:
        """Check that no file is cut off, or something else."""
        check_whole(self.option, Path(OmegaConf.select(config, self.option)))

    def open(self, config: DictConfig, parts: Inputs) -> Path:
        """Return the path."""
        return Path(OmegaConf.select(config, self.option))
