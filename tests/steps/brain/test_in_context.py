"""Decoding from a support set, from the command line to the report."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mindeye_pl.config import compose_config
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.baselines.images import IMAGES
from mindeye_pl.steps.baselines.ridge import describe_choices, read_choices
from mindeye_pl.steps.brain.in_context.decode import DECODE_IN_CONTEXT, InContextDecoder, part_name
from mindeye_pl.steps.brain.in_context.prior import FIT_VOXEL_PRIOR, FittedPrior
from mindeye_pl.steps.brain.in_context.transformer import NETWORK, PRETRAIN_VOXEL_TRANSFORMER
from mindeye_pl.steps.evaluation.in_context import EVALUATE_IN_CONTEXT
from tests.conftest import CommandLine

COMMAND = ("pipeline=decode_in_context", "scale=tiny", "logger=none")
TRANSFORMER = (*COMMAND, "in_context.decoder=transformer", "in_context.correspondence=positions")


def run(*more: str) -> Run:
    overrides = [*COMMAND, *more]
    return Run(compose_config(overrides), overrides)


def test_from_the_command_to_the_report(cli: CommandLine) -> None:
    code, out, err = cli(*TRANSFORMER)
    assert code == 0, err
    decoded, evaluated = cli.made("decode_in_context"), cli.made("evaluate_in_context")
    content = json.loads((evaluated / "scores.json").read_text())
    rows = {f"{line}_{size}" for line in ("bayesian", "transformer") for size in (0, 5, 20)}
    assert content["rows"].keys() == rows | {"ridge_5", "ridge_20", "shuffled"}
    for row in content["rows"].values():
        by_name = {score["name"]: score for score in row}
        for name in ("image_retrieval", "brain_retrieval"):
            assert by_name[name]["interval"][0] <= by_name[name]["value"] <= by_name[name]["interval"][1]
            assert by_name[name]["chance"] == pytest.approx(0.1)
    smaller, larger = (load_file(decoded / part_name(size, 1)) for size in (5, 20))
    assert set(smaller["support_ids"].tolist()) < set(larger["support_ids"].tolist())
    assert not np.isin(larger["support_ids"], larger["stimulus_ids"]).any()
    fitted = FittedPrior.read(cli.made("fit_voxel_prior"))
    assert larger["transformer"].shape == larger["bayesian"].shape == (10, len(fitted.prior.mean))
    assert set(fitted.weights) == {2, 5, 7}
    assert "Decoding from a support set (simulated)" in out
    (page,) = (cli.outputs / "reports").rglob("index.html")
    assert "transformer, 20 images" in page.read_text()
    # The other decoder needs no training of its own.
    code, out, err = cli(*COMMAND)
    assert code == 0, err
    again = [path for path in (cli.outputs / "artifacts" / "decode_in_context").glob("*bayesian*") if path.is_dir()]
    assert len(again) == 1
    assert load_file(again[0] / part_name(20, 0)).keys() == {"stimulus_ids", "support_ids", "bayesian"}


def test_images_of_the_largest_support_set(cli: CommandLine) -> None:
    code, _, err = cli(*COMMAND, "pipeline.steps=[in_context_unclip]")
    assert code == 0, err
    drawn = load_file(cli.made("in_context_unclip") / IMAGES)
    part = load_file(cli.made("decode_in_context") / part_name(20, 0))
    assert torch.equal(drawn["stimulus_ids"], part["stimulus_ids"])
    assert drawn["images"].shape[:2] == (10, 3)
    assert drawn["images"].std() > 0
    described = describe_choices(read_choices(cli.made("in_context_unclip")))
    assert described == "bayesian, 20 support images"


def test_a_killed_step_continues_with_the_next_support_set(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, decoded = InContextDecoder.decode, []

    def stop_at_third(self: InContextDecoder, *args: torch.Tensor) -> dict[str, torch.Tensor]:
        decoded.append(len(args[0].features))
        if len(decoded) == 3:
            raise RuntimeError("killed")
        return decode(self, *args)

    monkeypatch.setattr(InContextDecoder, "decode", stop_at_third)
    with pytest.raises(RuntimeError, match="killed"):
        cli(*COMMAND)
    code, _, err = cli(*COMMAND)
    assert code == 0, err
    assert decoded == [0, 5, 5, 5, 5, 20, 20, 20]


def test_a_stopped_training_ends_in_the_same_weights(cli: CommandLine) -> None:
    training = (*TRANSFORMER, "pipeline.steps=[pretrain_voxel_transformer]")
    cli.ends_in_the_same_weights(*training, step="pretrain_voxel_transformer", file=NETWORK, stops=(1,), epochs=2)


def test_what_each_step_depends_on() -> None:
    steps = (FIT_VOXEL_PRIOR, PRETRAIN_VOXEL_TRANSFORMER, DECODE_IN_CONTEXT, EVALUATE_IN_CONTEXT)
    changed = {
        "in_context.decoder=transformer": (DECODE_IN_CONTEXT, EVALUATE_IN_CONTEXT),
        "in_context.correspondence=positions": (DECODE_IN_CONTEXT, EVALUATE_IN_CONTEXT),
        "in_context.draws=5": (DECODE_IN_CONTEXT, EVALUATE_IN_CONTEXT),
        "data.num_sessions=2": (DECODE_IN_CONTEXT, EVALUATE_IN_CONTEXT),
        "in_context.transformer.depth=3": (PRETRAIN_VOXEL_TRANSFORMER,),
        "in_context.features=3": steps,
        "metrics.pool_size=5": (EVALUATE_IN_CONTEXT,),
        "optimizer=muon": (),
    }
    before = {step: run().spec(step).fingerprint for step in steps}
    for override, expected in changed.items():
        after = run(override)
        assert {step for step in steps if after.spec(step).fingerprint != before[step]} == set(expected), override


def test_mistakes_are_one_line(cli: CommandLine) -> None:
    cli.refuses(*COMMAND, "in_context.context=[5,400]", says=("in_context.context", "400", "data.num_sessions=all"))
    cli.refuses(*COMMAND, "pretrain.subjects=[1,2]", says=("no new one", "data.subject=1"))
    cli.refuses(*COMMAND, "pretrain.subjects=[2]", says=("two subjects at least",))
    cli.refuses(*TRANSFORMER, "in_context.transformer.heads=3", says=("in_context.transformer.heads", "divisor of 8"))
    cli.refuses(*TRANSFORMER, "in_context.context=[0]", says=("in_context.context=[20,200]",))
