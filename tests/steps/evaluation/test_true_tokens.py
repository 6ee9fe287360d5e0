"""Images from true tokens: drawn once for all models, in another way than the step draws them."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.nn.diffusion.seeds import image_seed
from mindeye_pl.steps.brain.reconstructor import sampling_of
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.true_tokens import DRAW_TRUE_TOKENS

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")


def run(*more: str) -> Run:
    overrides = [*COMMAND, *more]
    return Run(compose_config(overrides), overrides)


def fingerprint(*more: str) -> str:
    return run(*more).spec(DRAW_TRUE_TOKENS).fingerprint


def test_models_with_the_same_unclip_share_them() -> None:
    own = fingerprint()
    same = ("seed=7", "data.num_sessions=2", "finetune.start=scratch", "model=mindeye1", "unclip.strength=0.4")
    assert {fingerprint(one) for one in same} == {own}
    other = ("data.subject=2", "unclip.guidance=2.5", "unclip.steps=7", "data.split=cluster_k5_0")
    assert own not in {fingerprint(one) for one in other}


def test_images_of_the_user_have_no_such_ceiling(finished: Path) -> None:
    of_the_run, of_the_user = (
        EVALUATE_RECONSTRUCTIONS.inputs(run(*more).config) for more in ((), (f"evaluate.reconstructions={finished}",))
    )
    assert "true_tokens" in of_the_run
    assert "true_tokens" not in of_the_user


def test_each_image_is_that_of_its_tokens_alone(finished: Path) -> None:
    (folder,) = (finished / "artifacts" / "draw_true_tokens").glob("subj*")
    made = load_file(folder / "reconstructions.safetensors")
    config = run(f"paths.outputs={finished}")
    inputs = config.inputs(DRAW_TRUE_TOKENS)
    ids = made["stimulus_ids"]
    tokens = inputs["targets"].true_tokens(ids.numpy())
    decoder = inputs["unclip"].load().eval()
    decoder.sampling = sampling_of(inputs["unclip"].settings)
    for row in (0, len(ids) - 1):
        with torch.inference_mode():
            drawn = decoder.draw(tokens[row : row + 1].float(), [image_seed(0, int(ids[row]))])
        torch.testing.assert_close(made["images"][row].float(), drawn[0], atol=2e-3, rtol=0)
