"""The feature networks of evaluations from their released files (MindEye2, spec section 10)."""

import re
import warnings
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from mindeye_pl.errors import UserError
from mindeye_pl.nn.clip.clip_embedder import CLIP_MEAN, CLIP_STD
from mindeye_pl.nn.features.feature_networks import RECIPES, FeatureNetwork, InceptionOfFID
from mindeye_pl.sharing.folder import assign
from mindeye_pl.types import OneOf
from mindeye_pl.weights.files import fill, read_state
from mindeye_pl.weights.loaders.bundled import load_clip
from mindeye_pl.weights.registry import check_weights

_FIX = "python -m mindeye_pl pipeline=check_weights names the file and the command that fetches it"

#: Counter of training steps, which files from before torch 0.4.1 lack and eval mode does not use.
_COUNTER = "num_batches_tracked"

#: Networks that `load_feature_network` builds.
FeatureName = Annotated[str, OneOf((*RECIPES, "fid_inception", "laptop_clip"))]


def load_feature_network(name: FeatureName, path: str | Path | None, *, antialias: bool = False) -> FeatureNetwork:
    """Load a network of `conf/features` on the CPU, frozen and in eval mode.

    Args:
        name: `alexnet` | `inception_v3` | `clip_b32` | `clip_l` | `efficientnet_b1` | `swav` | `fid_inception` |
            `laptop_clip`.
        path: released file; None for `laptop_clip` uses the shipped one.
        antialias: of the resizing, see `FeatureNetwork`; `fid_inception` has its own resizing.

    Raises a UserError for a file that is missing, damaged, of another architecture, or a pickle with code in it.
    """
    if name == "laptop_clip":
        return load_laptop_clip(None if path is None else Path(path).parent, antialias=antialias)
    path = _present(name, path)
    if name == "fid_inception":
        return _load_fid_inception(path)
    recipe, read = RECIPES[name], _READERS.get(name, read_state)
    return recipe.feature_network(_filled(name, recipe.build(), read(path), path), antialias=antialias)


def load_laptop_clip(folder: str | Path | None = None, *, antialias: bool = False) -> FeatureNetwork:
    """Load the embedding of `bundled.load_clip`, the one that captions are compared with, as a feature network."""
    visual = load_clip(folder)[1].visual
    visual.output_tokens = False
    size = visual.image_size[0]
    return FeatureNetwork(
        visual, layers=["laptop_clip"], size=size, mean=CLIP_MEAN, std=CLIP_STD, antialias=antialias
    ).float()


def load_lpips(path: str | Path | None) -> nn.Module:
    """Load LPIPS 0.1: AlexNet from its released file, the weights of its layers from the `lpips` package.

    Raises a UserError as `load_feature_network`.
    """
    import lpips

    path = _present("lpips", path)
    alexnet = _filled("alexnet", RECIPES["alexnet"].build(), read_state(path), path).state_dict()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses an old argument of torchvision
        # A random AlexNet, replaced below; the package's alternative is a download.
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = {key: alexnet[re.sub(r"^slice\d", "features", key)] for key in network.net.state_dict()}
    assign(network.net, trunk)
    return network.requires_grad_(False).eval()


def _present(name: str, path: str | Path | None) -> Path:
    if path is None or not Path(path).is_file():
        raise UserError(f"{name} needs its released file", got=path or "none", expected="a file", fix=_FIX)
    return Path(path)


def _read_swav(path: Path) -> dict[str, Tensor]:
    """Return the weights without the prefix of parallel training and without training heads."""
    state = {key.removeprefix("module."): value for key, value in read_state(path).items()}
    return {key: value for key, value in state.items() if not key.startswith(("projection_head.", "prototypes."))}


def _read_openclip_visual(path: Path) -> dict[str, Tensor]:
    """Return the weights of the vision tower."""
    state = read_state(path)
    visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    if not visual:
        raise UserError(f"{path} is no open_clip model", got=f"keys like {min(state)}", expected="visual.*")
    return visual


#: Readers of files that are not the network's state dict.
_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "swav": _read_swav,
    "clip_b32": _read_openclip_visual,
    "clip_l": _read_openclip_visual,
}


def _load_fid_inception(path: Path) -> FeatureNetwork:
    from torch_fidelity import FeatureExtractorInceptionV3

    class Extractor(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict(state_dict, *args, **kwargs) if state_dict else None

    # The constructor would download a file, or execute the pickle of a given one, so it gets an empty one.
    empty = BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with torch.device("meta"):
        network = Extractor("fid_inception", ["2048"], feature_extractor_weights_path=empty)
    return InceptionOfFID(_filled("fid_inception", network, read_state(path), path))


def _filled(name: str, network: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Return the network with the weights of a file in float32, which must fit the whole network."""
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    counters = {key: torch.tensor(0) for key in network.state_dict() if key.endswith(_COUNTER)}
    weights = {key: value.float() for key, value in state.items() if not key.endswith(_COUNTER)}
    try:
        check_weights(wanted, weights, path)
    except UserError as error:
        key = error.what.rsplit(" ", 1)[-1]
        raise UserError(f"{path} is no {name}: {key}", got=error.got, expected=error.expected, fix=_FIX) from error
    return fill(network, weights | counters)
