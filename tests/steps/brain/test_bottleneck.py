"""`bottleneck.dimensions` through the command line: from nothing of the brain to all of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.engine.run import Run
from mindeye_pl.engine.settings import declare
from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.steps.brain.bottleneck import DIRECTIONS, FIT_BOTTLENECK
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.trained_model import Trained
from mindeye_pl.steps.brain.trials import image_means, subject_trials
from mindeye_pl.steps.evaluation.retrieval import EVALUATE, PREDICTIONS
from mindeye_pl.store.own_files import read_json
from tests.conftest import CommandLine

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")
STEPS = "pipeline.steps=[evaluate,reconstruct]"


def artifact(cli: CommandLine, step: str, ending: str) -> Path:
    (folder,) = (cli.outputs / "artifacts" / step).glob(f"subj*{ending}-????????????")
    return folder


def squeezed(cli: CommandLine, dimensions: int, steps: str = STEPS) -> str:
    code, out, err = cli(*COMMAND, steps, f"bottleneck.dimensions={dimensions}")
    assert code == 0, err
    return out


def test_without_a_dimension_every_image_has_the_same_code(cli: CommandLine, finished: Path) -> None:
    """Retrieval is chance, and tokens are the prior's draws for the mean vector by the images' own seeds."""
    out = squeezed(cli, 0)
    assert "fine-tuning" not in out, "the trained model is the same for every bottleneck"
    scores = read_json(artifact(cli, "evaluate", "-0d") / "scores.json")
    found = {score["name"]: score for score in scores["rows"]["model"]}
    for name in ("image_retrieval_full", "brain_retrieval_full"):
        assert found[name]["value"] == pytest.approx(found[name]["chance"])
    retrieval = load_file(artifact(cli, "evaluate", "-0d") / PREDICTIONS)["retrieval"].float()
    torch.testing.assert_close(retrieval, retrieval[:1].expand_as(retrieval), atol=1e-3, rtol=0)

    made = load_file(artifact(cli, "reconstruct", "-0d-tiny") / "reconstructions.safetensors")
    mean = load_file(cli.made("fit_bottleneck") / DIRECTIONS)["mean"]
    config = compose_config([*COMMAND, f"paths.outputs={cli.outputs}"])
    model = Run(config).open(Trained()).load(config.simulation.voxel_counts[1])
    with torch.no_grad():
        tokens = model.backbone(mean[None])[0].expand(len(made["stimulus_ids"]), -1, -1)
    seeds = [image_seed(config.seed, id_) for id_ in made["stimulus_ids"].tolist()]
    drawn = model.sample_tokens(tokens, seeds, samples=config.reconstruct.get("prior_samples") or 1)
    torch.testing.assert_close(made["backbone_tokens"].float(), tokens, atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(made["prior_tokens"].float(), drawn, atol=2e-2, rtol=2e-2)
    assert made["prior_tokens"].float().std(0).max() > 0.1, "images have draws of their own"


def test_all_dimensions_or_more_are_as_no_bottleneck(cli: CommandLine, finished: Path) -> None:
    rank = compose_config(list(COMMAND)).scale.hidden_dim
    squeezed(cli, rank + 1)
    squeezed(cli, rank - 1, "pipeline.steps=[evaluate]")
    for step, end, file in (("evaluate", "", PREDICTIONS), ("reconstruct", "-tiny", "reconstructions.safetensors")):
        folders = (artifact(cli, step, f"seed42{dimensions}{end}") for dimensions in (f"-{rank + 1}d", ""))
        found, expected = (load_file(folder / file) for folder in folders)
        for name, values in expected.items():
            torch.testing.assert_close(found[name], values)
    nearly, expected = (load_file(artifact(cli, "evaluate", end) / PREDICTIONS) for end in (f"-{rank - 1}d", "seed42"))
    assert not torch.equal(nearly["retrieval"], expected["retrieval"])


def test_directions_are_of_the_training_images_alone(cli: CommandLine, finished: Path) -> None:
    squeezed(cli, 3, "pipeline.steps=[evaluate]")
    found = load_file(cli.made("fit_bottleneck") / DIRECTIONS)
    config = compose_config([*COMMAND, f"paths.outputs={cli.outputs}"])
    run = Run(config)
    inputs = run.inputs(FIT_BOTTLENECK)
    settings = declare(run.resolved, (*FIT_BOTTLENECK.keys, *FIT_BOTTLENECK.runtime_keys))
    data = subject_trials(inputs["data"], settings, inputs["split"])
    trials = data.train_trials[0]
    assert not set(trials.stimulus_ids) & set(data.test_set(1).stimulus_ids.tolist())
    betas = torch.from_numpy(read_betas(data.layout, 1, trials.beta_rows))
    weights = load_file(run.make(FINETUNE).folder / "model.safetensors")
    aligned = betas @ weights["alignment.network.linears.0.weight"].T + weights["alignment.network.linears.0.bias"]
    means, _ = image_means(aligned.numpy(), trials.stimulus_ids)
    analysis = PCA(svd_solver="full").fit(means.astype(np.float64))
    rank = len(found["directions"])
    torch.testing.assert_close(found["mean"], torch.from_numpy(analysis.mean_).float(), atol=1e-4, rtol=1e-4)
    cosines = np.abs(np.einsum("kh,kh->k", found["directions"].numpy(), analysis.components_[:rank]))
    np.testing.assert_allclose(cosines, 1, atol=1e-2)


def test_the_number_of_dimensions_changes_evaluations_alone() -> None:
    def fingerprints(*more: str) -> list[str]:
        run = Run(compose_config([*COMMAND, *more]))
        return [run.spec(step).fingerprint for step in (FINETUNE, FIT_BOTTLENECK, EVALUATE)]

    tuned, fitted, whole = fingerprints()
    two, three = (fingerprints(f"bottleneck.dimensions={dimensions}") for dimensions in (2, 3))
    assert two[:2] == three[:2] == [tuned, fitted]
    assert len({whole, two[2], three[2]}) == 3


@pytest.mark.slow
def test_a_bottleneck_of_clusters(cli: CommandLine) -> None:
    code, _, err = cli(
        *COMMAND, "alignment=clusters", "backbone=clusters", "low_level=none", "unclip=none", "pretrain.epochs=1",
        "finetune.epochs=1", "pipeline.steps=[evaluate]", "bottleneck.dimensions=0",
    )  # fmt: skip
    assert code == 0, err
    retrieval = load_file(cli.made("evaluate") / PREDICTIONS)["retrieval"].float()
    torch.testing.assert_close(retrieval, retrieval[:1].expand_as(retrieval), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("model=mind_reader", "bottleneck.dimensions=2"), ("needs a model with an alignment", "MindReader")),
        (("model=mindeye1", "low_level=separate", "bottleneck.dimensions=2"), ("reads the voxels", "low_level=none")),
        (("bottleneck.dimensions=-1",), ("bottleneck.dimensions", "got: -1")),
    ],
)
def test_what_has_no_bottleneck_is_refused(cli: CommandLine, more: tuple[str, ...], says: tuple[str, ...]) -> None:
    cli.refuses(*COMMAND, "pipeline.steps=[evaluate]", *more, says=says)
