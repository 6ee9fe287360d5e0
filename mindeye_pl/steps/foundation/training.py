"""The training of one foundation model on images: its settings and the common loop."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule

from mindeye_pl.data.image_datamodule import ImageDataModule
from mindeye_pl.data.image_sources import Table
from mindeye_pl.distributed.strategies import determined_by_trainer
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import Input, Made, Step, Work
from mindeye_pl.errors import UserError
from mindeye_pl.steps.foundation.images import SCENES, TrainingImages, trains_on_scenes
from mindeye_pl.training.budget import Budget
from mindeye_pl.training.fit import TRAINER_KEYS, fit
from mindeye_pl.training.settings import TrainingSettings, determined_by_callbacks

#: Settings that every training of a foundation model depends on, beside its own node of `foundation`.
TRAINING_KEYS = ("seed", "trainer.precision", "foundation.images.num_validation")
#: Settings of the same training that change nothing in the weights.
TRAINING_RUNTIME = (*TRAINER_KEYS, "foundation.name")


class FoundationTraining(Step):
    """Trains one model of the group `foundation` on images."""

    runtime_keys: ClassVar[tuple[str, ...]] = TRAINING_RUNTIME
    by_all_ranks = True
    needs_scenes = False  # whether it reads the captions of simulated scenes

    @property
    def model(self) -> str:
        """Name of the model's node in `foundation`."""
        return self.name.removeprefix("pretrain_")

    def label(self, config: DictConfig) -> str:
        """Return the foundation and the seed."""
        return foundation_label(config)

    def check(self, config: DictConfig) -> None:
        """Check that the foundation has the model, and that there are captions where it needs them."""
        if self.model not in config.foundation:
            got, expected = f"foundation={config.foundation.name}", f"a foundation with {self.model}"
            fix = "foundation=laptop, or pipeline=pretrain_unclip"
            raise UserError(f"{self.name} has no settings", got=got, expected=expected, fix=fix)
        if self.needs_scenes and not trains_on_scenes(config):
            raise UserError(f"{self.name} needs captions", got=config.foundation.images.source, expected="simulated")

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return the images, and the folder of scenes where their captions are read."""
        return {"images": TrainingImages()} | ({"scenes": Made(SCENES)} if self.needs_scenes else {})

    def derived(self, config: DictConfig) -> dict[str, Any]:
        """Return what the weights depend on of the trainer and the callbacks."""
        return determined_by_trainer(config) | determined_by_callbacks(config)

    def fit(
        self,
        model: LightningModule,
        tables: Mapping[str, Table],
        num_images: int,
        settings: Settings,
        work: Work,
        *,
        save: Callable[[], None],
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Train the model on batches of table rows, the last `foundation.images.num_validation` held out.

        Args:
            model: to train.
            tables: one row for each image.
            num_images: rows of the tables.
            settings: of the step.
            work: folder of the checkpoint and the history.
            save: writes the trained weights.
            callbacks: beside those of every training.
        """
        own, foundation = settings.foundation[self.model], settings.foundation
        data = ImageDataModule(
            tables,
            num_images,
            own.batch_size,
            foundation.images.num_validation,
            seed=settings.seed,
            steps_per_epoch=own.get("steps_per_epoch"),
        )
        training, title = TrainingSettings.of(settings, work.name), f"training the {foundation.name} {self.model}"
        how: dict[str, Any] = {"budget": Budget(own.epochs), "title": title, "callbacks": callbacks, "save": save}
        fit(model, data, work.folder, training, log=work.log, **how)


def foundation_label(config: DictConfig) -> str:
    """Return the foundation and the seed."""
    return f"{config.foundation.name}-seed{config.seed}"


def sizes_of(node: DictConfig) -> dict[str, Any]:
    """Return the `sizes` of a model's node as plain data."""
    sizes: Any = OmegaConf.to_container(node.sizes)
    return sizes
