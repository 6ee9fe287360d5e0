"""`protocol=mindeye2` gives the numbers of the published evaluation, written down here from its specification.

The networks have the published architectures and random weights, in files of the released format (MindEye2, spec
section 10).
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import correlation
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.functional import normalize, resize

from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.stimuli import Stimuli
from tests.conftest import CommandLine
from tests.steps.evaluation.test_reconstructions import EVALUATE, scores, value
from tests.weights.loaders.test_feature_networks import PUBLISHED, as_released, random_state

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def published_features(name: str, state: dict[str, Tensor], images: Tensor) -> dict[str, np.ndarray]:
    architecture, layers, side = PUBLISHED[name]
    network: nn.Module = architecture().eval()
    network.load_state_dict(state)
    seen = normalize(resize(images, [side, side], antialias=False), MEAN, STD)
    with torch.inference_mode():
        made = create_feature_extractor(network, {node: layer for layer, node in layers.items()})(seen)
    return {layer: features.flatten(1).double().numpy() for layer, features in made.items()}


def two_way(real: np.ndarray, drawn: np.ndarray) -> float:
    table = np.corrcoef(real, drawn)[: len(real), len(real) :]  # (N, N), seen by drawn
    return float(((table < np.diag(table)).sum(0) / (len(real) - 1)).mean())


def as_published(states: dict[str, dict[str, Tensor]], seen: Tensor, drawn: Tensor) -> dict[str, float]:
    real, mine = (resize(images, [256, 256], antialias=False) for images in (seen, drawn))
    large = [resize(images, [425, 425], antialias=False) for images in (real, mine)]
    flat = [images.flatten(1).double().numpy() for images in large]
    grey = [rgb2gray(images.permute(0, 2, 3, 1).double().numpy()) for images in large]
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    wanted = {
        "pixcorr": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*flat, strict=True)])),
        "ssim": float(np.mean([structural_similarity(b, a, **how) for a, b in zip(*grey, strict=True)])),
    }
    for name, state in states.items():
        theirs, ours = (published_features(name, state, images) for images in (real, mine))
        for layer in theirs:
            pair = theirs[layer], ours[layer]
            if name in ("alexnet", "inception_v3"):
                wanted[f"{layer.replace('_', '').removesuffix('v3')}_two_way"] = two_way(*pair)
            else:
                distances = [correlation(a, b) for a, b in zip(*pair, strict=True)]
                wanted[f"{'effnet' if name == 'efficientnet_b1' else name}_distance"] = float(np.mean(distances))
    return wanted


@pytest.mark.slow
def test_every_number_is_the_published_one(cli: CommandLine, finished: Path, tmp_path: Path) -> None:
    states = {name: random_state(name) for name in PUBLISHED}
    files = []
    for name, state in states.items():
        torch.save(as_released(name, state), tmp_path / f"{name}.pth")
        files.append(f"weights.{'swav_resnet50' if name == 'swav' else name}.file={tmp_path / f'{name}.pth'}")
    (world,) = (finished / "artifacts" / "simulate").glob("[!.]*")
    ids = np.array(scores(finished)["stimulus_ids"])
    seen = torch.from_numpy(Stimuli(DataLayout(world).stimuli).read(ids)).float()
    draw = torch.Generator().manual_seed(3)
    drawn = (0.6 * seen + 0.4 * torch.rand(seen.shape, generator=draw)).clamp(0, 1)
    torch.save(drawn, tmp_path / "mine_all_recons.pt")
    code, _, err = cli(
        *EVALUATE, "protocol=mindeye2", f"evaluate.reconstructions={tmp_path / 'mine_all_recons.pt'}", *files
    )
    assert code == 0, err
    content = scores(finished, "*mine*mindeye2*")
    differences = {
        metric: abs(value(content, "model", metric) - wanted)
        for metric, wanted in as_published(states, seen, drawn).items()
    }
    assert len(differences) == 7
    assert max(differences.values()) < 1e-6, differences
