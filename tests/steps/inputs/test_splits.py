"""Splits through the command line: what is trained on, what is tested, what the artifacts are named by."""

from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from safetensors.numpy import load_file

from mindeye_pl.config import compose_config
from mindeye_pl.data.layout.behaviour import Behaviour
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.data.layout.shards import read_behaviour
from mindeye_pl.data.layout.splits import CLUSTERS
from mindeye_pl.data.layout.trials import count_sessions
from mindeye_pl.engine.run import Run
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT
from mindeye_pl.steps.evaluation.encoder import FIT_ENCODER
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.steps.evaluation.test_set_log import TestSetLog
from mindeye_pl.steps.inputs.splits import Split
from tests.conftest import CommandLine
from tests.steps.opened import trials

COMMAND = ("+experiment=finetune_subj01_1h", "scale=tiny", "logger=none")


def run_of(outputs: Path, *more: str) -> Run:
    GlobalHydra.instance().clear()
    return Run(compose_config([*COMMAND, *more, f"paths.outputs={outputs}"]))


def seen_by(layout: DataLayout, subject: int) -> tuple[set[int], set[int]]:
    """The images of a subject's training shards and of its test shard, read without the reader of trials."""
    shards = [layout.shard(subject, "train", index) for index in range(count_sessions(layout, subject))]
    train = np.concatenate([read_behaviour(shard)[:, Behaviour.STIMULUS] for shard in shards])
    test = read_behaviour(layout.shard(subject, "new_test"))[:, Behaviour.STIMULUS]
    return set(train.astype(int).tolist()), set(test.astype(int).tolist())


@pytest.mark.slow
def test_a_whole_experiment(cli: CommandLine, laboratory: Path) -> None:
    code, out, err = cli(*COMMAND, "data.split=cluster_k2_0")
    assert code == 0, err
    assert "clusters of" in out
    (path,) = (cli.outputs / "artifacts" / "clusters").glob("tiny-k2-*")
    clusters = np.load(path / CLUSTERS)
    (world,) = (laboratory / "simulate").glob("tiny-*")
    left_out = set(np.flatnonzero(clusters == 0).tolist())

    run = run_of(cli.outputs, "data.split=cluster_k2_0")
    for subject in (1, 2, 5, 7):
        train, test = seen_by(DataLayout(world), subject)
        assert train & left_out, "there is something to leave out"
        (trained,) = trials(run, [subject]).trials
        assert set(trained.stimulus_ids.tolist()) == train - left_out
        assert set(trials(run, [subject]).test_set(subject).stimulus_ids.tolist()) == test & left_out
    _, test = seen_by(DataLayout(world), 1)
    (predictions,) = (cli.outputs / "artifacts" / "evaluate").glob("subj*/predictions.safetensors")
    assert load_file(predictions)["stimulus_ids"].tolist() == sorted(test & left_out)
    (images,) = (cli.outputs / "artifacts" / "reconstruct").glob("subj*/reconstructions.safetensors")
    assert load_file(images)["stimulus_ids"].tolist() == sorted(test & left_out)

    before = path.stat().st_mtime_ns
    code, out, _ = cli(*COMMAND, "data.split=cluster_k2_0")
    assert code == 0
    assert "evaluate: cached" in out
    other = run_of(cli.outputs, "data.split=cluster_k2_1", "data.subject=2", "data.num_sessions=all").open(Split())
    assert other is not None
    np.testing.assert_array_equal(other.clusters, clusters)
    assert path.stat().st_mtime_ns == before, "made once, whoever asks"

    (weights,) = (cli.outputs / "artifacts" / "finetune").glob("subj*/model.safetensors")
    with pytest.warns(
        UserWarning, match=r"data\.split=cluster_k2_0: evaluate\.checkpoint may have been trained on the images"
    ):
        run_of(cli.outputs, "data.split=cluster_k2_0", f"evaluate.checkpoint={weights}").open(Split())


def test_every_artifact_is_named_by_its_split(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, f"data.split={split}") for split in ("standard", "cluster_k2_0", "cluster_k2_1")]
    for step in (PRETRAIN, FINETUNE, EVALUATE, RECONSTRUCT, EVALUATE_RECONSTRUCTIONS):
        specs = [run.spec(step) for run in runs]
        assert len({spec.fingerprint for spec in specs}) == 3


def test_the_published_split_of_mind_reader(cli: CommandLine, tiny_nsd: Path) -> None:
    """The images that were shown first are trained on, the others evaluated and reconstructed."""
    split = ("data.split=image_wise_85", f"paths.nsd={tiny_nsd}", "finetune.start=scratch", "finetune.epochs=1")
    steps = "pipeline.steps=[evaluate,reconstruct,evaluate_reconstructions]"
    code, _, err = cli(*COMMAND, *split, steps, "protocol.encoders=[]", "data.num_sessions=2")
    assert code == 0, err
    layout = DataLayout(tiny_nsd)
    shards = [layout.shard(1, "train", 0), layout.shard(1, "train", 1), layout.shard(1, "new_test")]
    rows = np.concatenate([read_behaviour(shard) for shard in shards]).astype(int)
    rows = rows[rows[:, Behaviour.SESSION] <= 2]
    shown = rows[np.argsort(rows[:, Behaviour.BETA_ROW]), Behaviour.STIMULUS].tolist()
    order = list(dict.fromkeys(shown))
    tested = sorted(order[len(order) * 85 // 100 :])
    assert set(tested) - seen_by(layout, 1)[1], "not of shared images alone"
    for step, file in (("evaluate", "predictions"), ("reconstruct", "reconstructions")):
        (path,) = (cli.outputs / "artifacts" / step).glob(f"subj*/{file}.safetensors")
        assert load_file(path)["stimulus_ids"].tolist() == tested
    data = trials(run_of(cli.outputs, *split, "data.num_sessions=2"), [1], 2)
    assert data.trials[0].stimulus_ids.tolist() == [id_ for id_ in shown if id_ not in tested]
    assert data.test_set(1).num_repetitions.tolist() == [shown.count(id_) for id_ in tested]


@pytest.mark.slow
def test_the_sessions_in_use_are_part_of_what_the_published_split_of_mind_reader_is(tmp_path: Path) -> None:
    """Other sessions show other images first, and a pretraining leaves out what they test; clusters do not move."""

    def fingerprints(split: str, sessions: int) -> list[str]:
        run = run_of(tmp_path, f"data.split={split}", f"data.num_sessions={sessions}")
        test_set = run.open(TestSetLog()).test_set
        return [*(run.spec(step).fingerprint for step in (PRETRAIN, FIT_ENCODER)), test_set]

    for split, moves in (("image_wise_85", True), ("cluster_k2_0", False), ("standard", False)):
        pairs = zip(fingerprints(split, 1), fingerprints(split, 2), strict=True)
        assert all((one != other) == moves for one, other in pairs), split


def test_an_unknown_split(cli: CommandLine) -> None:
    for name in ("cluster_k5_5", "image_wise_100"):
        says = ("data.split", name, "cluster_k{k}_{i}", "image_wise_{percent}", "Fix: data.split=standard")
        cli.refuses(*COMMAND, f"data.split={name}", says=says)
    assert not cli.artifacts()


def test_too_many_clusters(cli: CommandLine) -> None:
    """Ten test images cannot fill a hundred clusters: told before anything is trained."""
    world = ("pipeline.steps=[pretrain]", "data.split=cluster_k100_99")
    cli.refuses(
        *COMMAND, *world, says=("data.split", "test images of subject 1", "cluster_k100_99", "Fix: data.split=")
    )
    cli.refuses(*COMMAND, "data.split=cluster_k9999_0", says=("data.split", "more clusters", "9999"))
    assert not [name for name in cli.artifacts() if "/pretrain/" in name]
