import pytest
import torch
from torch import Tensor

from mindeye_pl.errors import UserError
from mindeye_pl.metrics.effective_rank import effective_rank
from mindeye_pl.metrics.identification import correlation_matrix, n_way_per_image
from mindeye_pl.metrics.pixels import pixcorr_per_image, ssim_per_image
from mindeye_pl.metrics.retrieval import retrieval_scores, shuffled_scores
from mindeye_pl.metrics.statistics.checks import check_embeddings, check_images

NAMES = [f"coco_{i}.png" for i in range(5)]

ON_IMAGES = {"pixcorr": pixcorr_per_image, "ssim": ssim_per_image}


def images() -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, 5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return first, second


@pytest.mark.parametrize("name", ON_IMAGES)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("value", "message"), [(torch.nan, "NaN"), (torch.inf, "infinity"), (1.5, "outside"), (-1, "out")]
)
def test_invalid_image_raises_an_error_with_its_name(name: str, side: int, value: float, message: str) -> None:
    both = images()
    both[side][3, 1, 2, 2] = value
    with pytest.raises(UserError, match=rf"'coco_3.png'.*{('reconstructions', 'images')[side]}.*{message}"):
        ON_IMAGES[name](*both, size=None, names=NAMES)
    with pytest.raises(UserError, match=rf"image 3 of.*{message}"):
        ON_IMAGES[name](*both, size=None)


@pytest.mark.parametrize("name", ON_IMAGES)
def test_invalid_sets_of_images_are_refused(name: str) -> None:
    metric, (first, second) = ON_IMAGES[name], images()
    with pytest.raises(UserError, match=r"no images"):
        metric(first[:0], second[:0])
    with pytest.raises(UserError, match=r"differ in number.*got: 4; expected: 5"):
        metric(first[:4], second)
    with pytest.raises(UserError, match=r"wrong shape.*\(1, 12, 12\)"):
        metric(first[:, :1], second)
    with pytest.raises(UserError, match=r"wrong dtype.*uint8.*255"):
        metric((255 * first).byte(), second)
    with pytest.raises(UserError, match=r"differ in size.*\(3, 11, 12\)"):
        metric(first[:, :, 1:], second, size=None)
    assert metric(first[:, :, 1:], second, size=16).isfinite().all()
    with pytest.raises(UserError, match=r"too small for SSIM.*got: 8 pixels"):
        ssim_per_image(first, second, size=8)


def test_half_precision_rounding_is_accepted() -> None:
    check_images(torch.full((1, 3, 2, 2), 1.0005), what="images")
    with pytest.raises(UserError, match=r"1\.01"):
        check_images(torch.full((1, 3, 2, 2), 1.01), what="images")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_invalid_features_raise_an_error_with_the_image(side: int, dtype: torch.dtype) -> None:
    both = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    retrieval_scores(brain=both[0], clip=both[1])
    for value, message in ((torch.nan, "NaN"), (-torch.inf, "infinity")):
        both[side, 2, 0, 0] = value
        with pytest.raises(UserError, match=rf"image 2 of.*{message}"):
            retrieval_scores(brain=both[0], clip=both[1])


def test_invalid_sets_of_features_are_refused() -> None:
    features = torch.randn(5, 3, 4)
    for brain, clip, message in (
        (features[:0], features[:0], "there are no"),
        (features[:4], features, "differ in number"),
        (features[:, :, 1:], features, r"differ in shape.*got: \(3, 3\); expected: \(3, 4\)"),
        (features.long(), features, r"wrong dtype.*int64"),
        (features[:, 0, 0], features[:, 0, 0], "wrong shape"),
    ):
        with pytest.raises(UserError, match=message):
            retrieval_scores(brain=brain, clip=clip)


def test_nan_in_a_later_block_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindeye_pl.metrics.statistics.checks._VALUES_PER_BLOCK", 6)
    features = torch.randn(5, 3)
    features[4, 2] = torch.nan
    with pytest.raises(UserError, match="image 4 of the tokens contains NaN"):
        check_embeddings(features, what="tokens")
    with pytest.raises(UserError, match="image 4 of the tokens contains NaN"):
        effective_rank(features)
    with pytest.raises(UserError, match="image 4 of the retrieval embeddings contains NaN"):
        shuffled_scores(brain=features, clip=torch.randn(5, 3))


def test_large_values_are_accepted() -> None:
    check_embeddings(torch.full((2, 4), 3e38), what="tokens")
    check_embeddings(torch.full((2, 4), 65504.0).half(), what="tokens")


def test_n_and_top_k_out_of_range_are_refused() -> None:
    features = torch.randn(5, 8)
    for n, top_k, message in ((6, 1, "n=6"), (1, 1, "n=1"), (3, 4, "top_k=4"), (3, 0, "top_k=0")):
        with pytest.raises(UserError, match=message):
            n_way_per_image(correlation_matrix(features, features), n=n, top_k=top_k)
    with pytest.raises(UserError, match="n=2; expected: 2 to 1 images"):
        n_way_per_image(torch.ones(1, 1), n=2)
    with pytest.raises(UserError, match=r"top_k of retrieval.*\[0\]"):
        retrieval_scores(brain=features, clip=features, top_k=[0])
