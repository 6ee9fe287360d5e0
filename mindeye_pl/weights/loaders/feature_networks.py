"""The feature networks of evaluations from their released files (MindEye2, spec section 10).

Nothing here has weights of its own making: without its file a network is refused.
"""

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
from mindeye_pl.types import OneOf
from mindeye_pl.weights.files import read_state
from mindeye_pl.weights.loaders.bundled import load_clip
from mindeye_pl.weights.registry import check_weights
from mindeye_pl.weights.sized_safetensors import fill

_FIX = "python -m mindeye_pl pipeline=check_weights names the file and the command that fetches it"

#: A counter of training steps, which files of before torch 0.4.1 lack and nothing in eval mode reads.
_COUNTER = "num_batches_tracked"


#: Networks that `load_feature_network` builds.
FeatureName = Annotated[str, OneOf((*RECIPES, "fid_inception", "laptop_clip"))]


def load_feature_network(name: FeatureName, path: str | Path | None, *, antialias: bool = False) -> FeatureNetwork:
    """A network of `conf/features`, on the CPU, frozen and in eval mode.

    Args:
        name: `alexnet` | `inception_v3` | `clip_l` | `efficientnet_b1` | `swav` | `fid_inception` | `laptop_clip`.
        path: its released file; None for `laptop_clip` takes the shipped one.
        antialias: of the resizing, see `FeatureNetwork`; `fid_inception` resizes by its own definition.

    Raises:
        UserError: for an unknown name, or a file that is missing, not whole, of another architecture, or a pickle with
            code in it.
    """
    if name == "laptop_clip":
        return load_laptop_clip(None if path is None else Path(path).parent, antialias=antialias)
    path = _present(name, path)
    if name == "fid_inception":
        return _load_fid_inception(path)
    recipe, read = RECIPES[name], _READERS.get(name, read_state)
    return recipe.feature_network(_filled(name, recipe.build(), read(path), path), antialias=antialias)


def load_laptop_clip(folder: str | Path | None = None, *, antialias: bool = False) -> FeatureNetwork:
    """The laptop's own CLIP as a feature network: its embedding, the one that captions are compared with.

    Args:
        folder: that holds the file; None for the shipped one.
        antialias: see `FeatureNetwork`; images of its own size are not resized.

    Raises:
        UserError: as `mindeye_pl.weights.loaders.bundled.load_clip`.
    """
    visual = load_clip(folder)[1].visual
    visual.output_tokens = False
    size = visual.image_size[0]
    return FeatureNetwork(
        visual, layers=["laptop_clip"], size=size, mean=CLIP_MEAN, std=CLIP_STD, antialias=antialias
    ).float()


def load_lpips(path: str | Path | None) -> nn.Module:
    """The network of LPIPS 0.1: AlexNet from its released file, the weights of its layers from the `lpips` package.

    Args:
        path: the file of `alexnet`.

    Raises:
        UserError: as `load_feature_network`.
    """
    import lpips

    path = _present("lpips", path)
    alexnet = _filled("alexnet", RECIPES["alexnet"].build(), read_state(path), path).state_dict()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision by an old argument
        # An AlexNet is drawn here, which is replaced whole below; the package's other choice is to download one.
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    trunk = {key: alexnet[re.sub(r"^slice\d", "features", key)] for key in network.net.state_dict()}
    network.net.load_state_dict(trunk, assign=True)
    return network.requires_grad_(False).eval()


def _present(name: str, path: str | Path | None) -> Path:
    if path is None or not Path(path).is_file():
        raise UserError(f"{name} needs its released file", got=path or "none", expected="a file", fix=_FIX)
    return Path(path)


def _read_swav(path: Path) -> dict[str, Tensor]:
    """Without the prefix of parallel training and the heads of the training."""
    state = {key.removeprefix("module."): value for key, value in read_state(path).items()}
    return {key: value for key, value in state.items() if not key.startswith(("projection_head.", "prototypes."))}


def _read_openclip_visual(path: Path) -> dict[str, Tensor]:
    """The vision tower alone."""
    state = read_state(path)
    visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    if not visual:
        raise UserError(f"{path} is no open_clip model", got=f"keys like {min(state)}", expected="visual.*")
    return visual


#: How a file becomes the state of its network, where it is not that state itself.
_READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {"swav": _read_swav, "clip_l": _read_openclip_visual}


def _load_fid_inception(path: Path) -> FeatureNetwork:
    from torch_fidelity import FeatureExtractorInceptionV3

    class Extractor(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict(state_dict, *args, **kwargs) if state_dict else None

    # Its constructor would download a file, or execute the pickle of a given one: it is handed an empty one of our own.
    nothing = BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    with torch.device("meta"):
        network = Extractor("fid_inception", ["2048"], feature_extractor_weights_path=nothing)
    return InceptionOfFID(_filled("fid_inception", network, read_state(path), path))


def _filled(name: str, network: nn.Module, state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """The network with a file's weights in float32, all of which must fit."""
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith(_COUNTER)}
    counters = {key: torch.tensor(0) for key in network.state_dict() if key.endswith(_COUNTER)}
    weights = {key: value.float() for key, value in state.items() if not key.endswith(_COUNTER)}
    try:
        check_weights({key: tuple(value.shape) for key, value in wanted.items()}, weights, path)
    except UserError as error:
        key = error.what.rsplit(" ", 1)[-1]
        raise UserError(f"{path} is no {name}: {key}", got=error.got, expected=error.expected, fix=_FIX) from error
    return fill(network, weights | counters)
