"""`reconstruct.linear_blur` against scikit-learn's ridge regression, and through the command line."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

import mindeye_pl
from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import declare
from mindeye_pl.metrics.ridge_decoder import TrialDecomposition
from mindeye_pl.steps.brain.linear_blur import CHOICES, MAP, FittedBlur, best_prediction, small_images
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT, read_reconstructions
from mindeye_pl.steps.brain.trials import subject_trials
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_json, read_tensors
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "unclip=tiny", "logger=none")
PENALTIES = [0.1, 10.0, 1000.0]


def test_the_penalty_is_that_of_leave_one_out() -> None:
    rng = np.random.default_rng(0)
    voxels, weights = rng.normal(size=(30, 12)), rng.normal(size=(12, 6))
    targets = voxels @ weights + 3 * rng.normal(size=(30, 6)) + 5
    errors = {}
    for penalty in PENALTIES:
        predicted = cross_val_predict(Ridge(alpha=penalty), voxels, targets, cv=LeaveOneOut())
        errors[penalty] = ((targets - predicted) ** 2).sum(), predicted
    expected = min(errors, key=lambda penalty: errors[penalty][0])
    decomposition = TrialDecomposition(voxels, np.arange(30))
    penalty, predicted = best_prediction(decomposition, torch.from_numpy(targets).float(), PENALTIES)
    assert penalty == expected
    np.testing.assert_allclose(predicted.numpy(), errors[expected][1], rtol=1e-3, atol=1e-3)


def test_pixels_are_means_of_their_area() -> None:
    class Images:
        def read(self, ids: np.ndarray) -> np.ndarray:
            return np.stack([np.full((3, 8, 8), id_ / 1000, np.float16) + _CHECKS for id_ in ids])

    ids = np.arange(0, 600, 2)
    found = small_images(Images(), ids, 4)  # type: ignore[arg-type]
    assert found.shape == (300, 3, 4, 4)
    np.testing.assert_allclose(found[:, 0, 1, 2].numpy(), ids / 1000 + 0.125, atol=1e-3)


_CHECKS = np.float16(0.25) * (np.indices((8, 8)).sum(0) % 2).astype(np.float16)


def test_images_start_from_a_linear_blur(cli: CommandLine, finished: object) -> None:
    """Blurry images are those of the fitted map for the test responses, of the wanted contrast, also after `load`."""
    wanted = ("adaptation=[linear_blur]", "reconstruct.linear_blur.size=4", "reconstruct.linear_blur.contrast=0.5")
    wanted += ("reconstruct.linear_blur.strength=0.3",)
    code, out, err = cli(*COMMAND, *wanted, "pipeline.steps=[reconstruct]")
    assert code == 0, err
    assert "4 x 4 pixels: penalty" in out
    folder = cli.made("fit_linear_blur")
    fitted, choices = read_tensors(folder / MAP), read_json(folder / CHOICES, dict[str, float])
    drawn = max((cli.outputs / "artifacts/reconstruct").glob("subj*"), key=lambda path: path.stat().st_mtime)
    made = read_reconstructions(drawn)
    assert "latents" not in made, "the low-level branch is not decoded"

    run = Run(compose_config([*COMMAND, *wanted, f"paths.outputs={cli.outputs}"]))
    inputs = RECONSTRUCT.inputs(run.config)
    settings = declare(run.config, (*RECONSTRUCT.keys, *RECONSTRUCT.runtime_keys))
    voxels, weights = subject_trials(run.open(inputs["data"]), settings, None).test_set(1).queries()
    mean_voxels = (weights[..., None] * voxels).sum(1)  # (n, V)
    predicted = (mean_voxels @ fitted["weight"].T + fitted["bias"]).unflatten(1, (3, 4, 4))
    expected = fitted["mean"] + 0.5 * choices["spread"] * (predicted - fitted["mean"])
    size = made["images"].shape[-2:]
    resized = F.interpolate(expected, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    torch.testing.assert_close(made["blurry_images"].float(), resized, atol=1e-3, rtol=1e-3)

    run_folder = max((cli.outputs / "runs").rglob(".hydra")).parent
    drawing = mindeye_pl.load(run_folder).reconstructor.image_decoder
    assert drawing is not None
    assert drawing.sampling.strength == 0.3 != run.config.unclip.strength
    decoder = mindeye_pl.load(run_folder, images=False)
    assert decoder.reconstructor.blur is not None
    torch.testing.assert_close(decoder.reconstructor.blur(mean_voxels), expected.clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_blurry_images_have_few_pixels(tmp_path: Path) -> None:
    tensors = {"weight": torch.zeros(48, 5), "bias": torch.full((48,), 0.5), "mean": torch.full((3, 4, 4), 0.5)}
    write_tensors(tmp_path / MAP, tensors)
    write_json(tmp_path / CHOICES, {"penalty": 1.0, "r2": 0.1, "spread": 4.0})
    sizes: dict[tuple[int, int] | None, tuple[int, int]] = {None: (4, 4), (768, 24): (32, 24)}
    for asked, expected in sizes.items():
        made = FittedBlur(tmp_path, contrast=0.5, strength=0.7).load(asked)
        assert made.spread == 2.0
        assert made(torch.ones(2, 5)).shape == (2, 3, *expected)


def test_a_bottleneck_is_refused(cli: CommandLine) -> None:
    says = ("reads the voxels past the bottleneck", "reconstruct.linear_blur.size=null")
    cli.refuses(
        *COMMAND, "adaptation=[linear_blur]", "bottleneck.dimensions=2", "pipeline.steps=[reconstruct]", says=says
    )
