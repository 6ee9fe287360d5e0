from omegaconf import OmegaConf, open_dict

from mindeye_pl.config import compose_config
from mindeye_pl.engine.step import Step
from mindeye_pl.reports.wandb.observer import tags
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.steps.foundation.laptop import PRETRAIN_CLIP


def tags_of(step: Step, *overrides: str) -> set[str]:
    return set(tags(compose_config([*overrides, "scale=tiny"]), step))


def test_tags_of_a_step() -> None:
    always = {"seed=42", "scale=tiny", "simulated"}
    assert tags_of(FINETUNE, "+experiment=scratch", "data.subject=2", "data.num_sessions=all") == always | {
        "subj02",
        "hours=all",
        "scratch",
    }
    assert tags_of(EVALUATE, "data.num_sessions=0.5", "seed=7") == {
        *("subj01", "hours=0.5", "pretrained", "seed=7", "scale=tiny", "simulated")
    }
    assert "CSI1" in tags_of(EVALUATE, "+data.labels={1: CSI1}"), "the dataset's own name of the subject"
    assert tags_of(EVALUATE, "evaluate.checkpoint=model.pth") == always | {"subj01", "hours=1", "checkpoint"}
    assert "split=cluster_k5_0" in tags_of(PRETRAIN, "data.split=cluster_k5_0")
    assert tags_of(PRETRAIN_CLIP, "pipeline=pretrain_foundation", "foundation=tiny") == always


def test_ablation_is_a_tag() -> None:
    config = compose_config(["scale=tiny"])
    with open_dict(config):
        config.ablation = OmegaConf.create({"name": "no_prior"})
    assert "ablation=no_prior" in tags(config, FINETUNE)
    config.ablation.name = "x" * 100
    assert max(map(len, tags(config, FINETUNE))) == 64
