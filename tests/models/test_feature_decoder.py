"""A bridge as a system: every subject's features go through the same bridge, trained by squared error."""

import torch

from mindeye_pl.models.feature_decoder import FeatureDecoder
from mindeye_pl.nn.brain.token_bridge import TokenBridge
from mindeye_pl.types import BrainBatch


def test_tokens_and_loss_of_two_subjects_with_different_patches() -> None:
    bridge = TokenBridge(6, 4, 12, hidden_dim=8, layers=1, heads=2, feed_forward_dim=8)
    model, features = FeatureDecoder(bridge).eval(), torch.randn(3, 5, 6)
    one, other = features[:2].flatten(1), features[2:].flatten(1)
    prediction = model([one, other], [0, 1])
    torch.testing.assert_close(prediction.tokens, bridge(features))
    assert model.sample_tokens(prediction.tokens) is prediction.tokens
    targets = torch.randn(3, 4, 12)
    batch = BrainBatch([one, other], [0, 1], torch.arange(3), {"tokens": targets.half()})
    loss = model.compute_loss(batch, epoch=0, num_epochs=1)
    torch.testing.assert_close(loss.total, (bridge(features) - targets.half().float()).square().mean())
    loss.total.backward()
    assert all(value.grad is not None for value in model.parameters())
    assert model.subject_parameters() == ()
