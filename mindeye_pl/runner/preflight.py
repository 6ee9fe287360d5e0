"""What is looked at before anything long begins: files, device, size."""

from omegaconf import DictConfig

from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.engine.step import Run
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.convert_mindeye1 import is_converted, lacking_shards
from mindeye_pl.steps.inputs.frozen_models import lacking_weights, sees_brains
from mindeye_pl.steps.inputs.simulate import layout, made_by
from mindeye_pl.training.build import parameter_counts


def lacking(run: Run) -> list[str]:
    """The files that this configuration needs and that are not here, each with what brings it."""
    lacks = []
    if sees_brains(run.config) and is_converted(run):
        lacks += lacking_shards(run)
    if sees_brains(run.config) and made_by(run) is None and not layout(run).root.is_dir():
        lacks.append(f"the data folder {layout(run).root} (paths.nsd=FOLDER, or docs/data.md)")
    if not sees_brains(run.config) and run.config.foundation.images.source is None:
        lacks.append("images to train on (foundation.images.source=FOLDER, or an hdf5 file)")
    return lacks + lacking_weights(run)


def check_device(config: DictConfig) -> None:
    """Refuses a GPU that is not there.

    Raises:
        UserError: naming the option that uses the CPU.
    """
    import torch

    if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise UserError("trainer asks for a GPU", got="no CUDA device", expected="one", fix="trainer=cpu")


def size_line(run: Run) -> str:
    """One line with the parameters of each stage, counted on the meta device."""
    config = run.config
    known = config.simulation.voxel_counts if config.data.source == "simulated" else nsd.VOXEL_COUNTS
    counts = parameter_counts(config, [known[config.data.subject]])
    parts = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"model at scale={config.scale.name}: {parts} parameters; {sum(counts.values()):,} in all"
