"""A wrong value on the command line is one line: the key, the value, the expected ones and the nearest of them."""

from copy import deepcopy
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from mindeye_pl.config import check_config, compose_config
from mindeye_pl.errors import UserError
from tests.conftest import CommandLine

EXPERIMENT = ("+experiment=finetune_subj01_1h", "scale=tiny")

#: An override, what the line says of the expected value, and the override that fixes it.
WRONG_VALUES = [
    ("finetune.epochs=ten", "a whole number of at least 1", "finetune.epochs=1"),
    ("finetune.epochs=1.5", "a whole number of at least 1", "finetune.epochs=2"),
    ("finetune.epochs=null", "a whole number of at least 1", "finetune.epochs=1"),
    ("finetune.batch_size=abc", "a whole number of at least 1", "finetune.batch_size=1"),
    ("finetune.keep=best_val", "last or best_validation", "finetune.keep=best_validation"),
    (
        "finetune.validation_score=ssim",
        "one of loss, image_retrieval, brain_retrieval",
        "finetune.validation_score=loss",
    ),
    ("finetune.max_steps=0", "a whole number of at least 1", "finetune.max_steps=1"),
    ("data.validation_images=-1", "a whole number of at least 0", "data.validation_images=0"),
    ("finetune.start=middle", "pretrained or scratch", "finetune.start=pretrained"),
    ("scale.hidden_dim=-3", "a whole number of at least 1", "scale.hidden_dim=1"),
    ("scale.prior_heads=0", "a whole number of at least 1", "scale.prior_heads=1"),
    ("scale.prior_timesteps=0", "a whole number of at least 1", "scale.prior_timesteps=1"),
    ("backbone.network.mixer=foo", "published or corrected", "backbone.network.mixer=published"),
    ("backbone.network.dropout=1", "a number of at least 0 and below 1", "backbone.network.dropout=0"),
    ("prior.network.denoiser.condition=foo", "sequence or residual", "prior.network.denoiser.condition=sequence"),
    ("fidelity.mixer=correct", "published or corrected", "fidelity.mixer=corrected"),
    ("objective.mixco_permutation=foo", "published or corrected", "objective.mixco_permutation=published"),
    ("objective.mixup_fraction=1.5", "a number of at least 0 and at most 1", "objective.mixup_fraction=1"),
    ("optimizer.lr=-1", "a number above 0", "optimizer.lr=1"),
    ("trainer.precision=foo", "one of 32-true, 16-mixed, bf16-mixed", "trainer.precision=32-true"),
    ("trainer.precision=16-true", "one of 32-true, 16-mixed, bf16-mixed", "trainer.precision=32-true"),
    ("trainer.accelerator=tpu", "one of cpu, gpu", "trainer.accelerator=cpu"),
    ("trainer.devices=abc", "one of auto", "trainer.devices=auto"),
    ("+trainer.limit_train_batches=0", "a whole number of at least 1", "trainer.limit_train_batches=1"),
    ("seed=-1", "a whole number of at least 0", "seed=0"),
    ("seed=99999999999999999999", "a whole number of at least 0", "seed=4294967295"),
    ("seed=abc", "a whole number of at least 0", "seed=0"),
    ("seed=1.5", "a whole number of at least 0", "seed=2"),
    ("data.betas=foo", "as_published or zscore_train_sessions", "data.betas=as_published"),
    ("data.num_sessions=abc", "all or a number above 0", "data.num_sessions=all"),
    ("data.num_sessions=[1]", "all or a number above 0", None),
    ("data.subjects=[]", "a list that is not empty", None),
    ("data.subjects=[1,1,2]", "each once", "data.subjects=[1,2]"),
    ("data.validation_fraction=abc", "a number of at least 0 and below 1", "data.validation_fraction=0"),
    ("data.num_workers=-1", "a whole number of at least 0", "data.num_workers=0"),
    ("embedder.token_dim=-1", "a whole number of at least 1", "embedder.token_dim=1"),
    ("embedder.name=../x", "text (up to 80 letters, digits", None),
    ("simulation.name=../../../../evil", "text (up to 80 letters, digits", None),
    (f"embedder.name={'a' * 81}", "text (up to 80 letters, digits", None),
    ("reconstruct.prior_samples=0", "a whole number of at least 1", "reconstruct.prior_samples=1"),
    ("unclip.batch_size=0", "a whole number of at least 1", "unclip.batch_size=1"),
    ("unclip.solver=dpm_multi", "one of euler_published, dpm_multistep", "unclip.solver=dpm_multistep"),
    ("unclip.network.unet.channels=[8,-1]", "a list, each item a whole number of at least 1", None),
    ("metrics.pool_size=0", "a whole number of at least 1", "metrics.pool_size=1"),
    ("metrics.num_pools=0", "a whole number of at least 1", "metrics.num_pools=1"),
    ("metrics.bootstrap_resamples=0", "a whole number of at least 1", "metrics.bootstrap_resamples=1"),
    ("metrics.bootstrap_resamples=-5", "a whole number of at least 1", "metrics.bootstrap_resamples=1"),
    ("metrics.top_k=[]", "a list that is not empty", None),
    ("metrics.ridge_alphas=[inf]", "a list that is not empty, each item a number above 0", None),
    ("protocol.baselines=[ridge]", "a list, each item one of ridge_latents", "protocol.baselines=[ridge_unclip]"),
    ("retrieve.width=0", "a whole number of at least 1", "retrieve.width=1"),
    ("index.build.kind=best", "one of flat, hnsw, ivf_pq", "index.build.kind=flat"),
    ("index.build.links=0", "a whole number of at least 2", "index.build.links=2"),
    ("logger.wandb.upload=file", "one of references, files, none", "logger.wandb.upload=files"),
    ("logger.wandb.num_images=-1", "a whole number of at least 0", "logger.wandb.num_images=0"),
    ("scale.checkpoint_every_n_epochs=-1", "a whole number of at least 1", "scale.checkpoint_every_n_epochs=1"),
    ("scale.checkpoint_every_n_epochs=0", "a whole number of at least 1", "scale.checkpoint_every_n_epochs=1"),
    ("callbacks.checkpoint.every_n_epochs=-1", "a whole number of at least 1", "callbacks.checkpoint.every_n_epochs=1"),
    ("callbacks.checkpoint.every_n_epochs=0", "a whole number of at least 1", "callbacks.checkpoint.every_n_epochs=1"),
    ("callbacks.checkpoint.every_n_minutes=-1", "a number of at least 0", "callbacks.checkpoint.every_n_minutes=0"),
    ("callbacks.checkpoint.signals=[SIGUSER]", "a list, each item one of SIGTERM, SIGUSR1", None),
    ("callbacks.checkpoint_every_n_epochs=-1", "a node with `_target_`, or null", None),
    ("+trainer.plugins=5", "a node with `_target_` (Precision) or", "trainer.plugins=null"),
    ("callbacks.checkpoint=5", "a node with `_target_`, or null", None),
    ("simulation.voxel_counts={1:0}", "a mapping, each value a whole number of at least 1", None),
    ("simulation.image_size=0", "a whole number of at least 1", "simulation.image_size=1"),
    ("simulation.noise_level=nan", "a number of at least 0", "simulation.noise_level=0"),
    ("artifacts.action=delete", "one of list, verify, prune", None),
    ("sweep.metric=foo", "one of", "sweep.metric=image_retrieval"),
    ("paths.reports=null", "text", None),
]


def changed(config: DictConfig, override: str) -> DictConfig:
    """A copy of a composed configuration after an override of the command line."""
    config = deepcopy(config)
    parsed = OverridesParser.create().parse_override(override)
    with open_dict(config):
        OmegaConf.update(config, parsed.key_or_group, parsed.value(), merge=False)
    return config


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return compose_config(list(EXPERIMENT))


@pytest.mark.parametrize(("override", "expected", "fix"), WRONG_VALUES, ids=[case[0] for case in WRONG_VALUES])
def test_wrong_value(config: DictConfig, override: str, expected: str, fix: str | None) -> None:
    with pytest.raises(UserError) as refused:
        check_config(changed(config, override))
    line = str(refused.value)
    for words in (override.lstrip("+").split("=")[0], "got: ", f"expected: {expected}", f"Fix: {fix}" if fix else ""):
        assert words in line


@pytest.mark.parametrize(
    ("groups", "override", "expected", "fix"),
    [
        ("model=mind_reader", "unclip.network.latents=zero", "zeros or random", "zeros"),
        ("model=mind_reader", "generator.objective.latents=zeros_mix", "zeros_mixed", "zeros_mixed"),
        ("model=mind_reader", "generator.projection_reduction=sum", "batch_sum or per_sample", "batch_sum"),
        ("model=mind_reader", "fidelity.projection=sample", "batch_sum or per_sample", "per_sample"),
        ("model=mind_reader", "foundation.generator.projection_reduction=0", "batch_sum or per_sample", "batch_sum"),
        ("model=mindeye1 data=nsd_mindeye1", "data.repeated_slots=trials", "one of both, trial, num_uniques", "trial"),
        ("model=mindeye1", "retrieve.vector=projection", "one of class_token, mean_of_tokens, flattened", "projected"),
    ],
)
def test_wrong_choice_of_another_system(groups: str, override: str, expected: str, fix: str) -> None:
    config = compose_config([*EXPERIMENT, *groups.split()])
    key, value = override.split("=")
    with pytest.raises(UserError) as refused:
        check_config(changed(config, override))
    line = str(refused.value)
    assert line.startswith(f"{key} has a wrong value (got: {value}; expected: ")
    assert expected in line
    assert line.endswith(f"Fix: {key}={fix}")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("finetune.epochs=ten", ("finetune.epochs", "got: ten", "Fix: finetune.epochs=1")),
        ("finetune.epochs=1.5", ("finetune.epochs", "got: 1.5", "Fix: finetune.epochs=2")),
        ("scale.hidden_dim=-3", ("scale.hidden_dim", "got: -3", "Fix: scale.hidden_dim=1")),
        ("backbone.network.mixer=foo", ("published or corrected", "Fix: backbone.network.mixer=published")),
        ("trainer.precision=foo", ("trainer.precision", "32-true", "Fix: trainer.precision=32-true")),
        ("optimizer.lr=-1", ("optimizer.lr", "a number above 0", "Fix: optimizer.lr=1")),
        ("objective.mixco_permutation=foo", ("objective.mixco_permutation", "published or corrected")),
        ("data.betas=foo", ("data.betas", "zscore_train_sessions", "Fix: data.betas=as_published")),
        ("+trainer.callbacks=5", ("trainer.callbacks is set by the project", "Fix: the group callbacks")),
        ("simulation.noise_level=nan", ("simulation.noise_level", "got: nan")),
    ],
)
def test_wrong_value_on_the_command_line(cli: CommandLine, override: str, says: tuple[str, ...]) -> None:
    cli.refuses(*EXPERIMENT, override, says=says)
    assert not cli.artifacts()


@pytest.mark.parametrize("name", ["callbacks", "logger"])
def test_trainer_argument_that_the_project_sets(config: DictConfig, name: str) -> None:
    with pytest.raises(UserError, match=rf"trainer\.{name} is set by the project \(got: 5\)\. Fix: "):
        check_config(changed(config, f"+trainer.{name}=5"))


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("+finetune.epoch=3", "finetune.epochs"),
        ("+backbone.network.dropuot=0.1", "backbone.network.dropout"),
        ("+backbone.dropuot=0.1", "backbone.network.dropout"),
        ("+finetune.max_epochs=${finetune.epochs}", "finetune.epochs"),
        ("+logger.wandb.uplaod=files", "logger.wandb.upload"),
        ("+callbacks.checkpoint.every_n_epoch=1", "callbacks.checkpoint.every_n_epochs"),
        ("+trainer.acumulate_grad_batches=2", "trainer.accumulate_grad_batches"),
        ("+unclip.network.vae.chanels=[4]", "unclip.network.vae.channels"),
        ("+sed=3", "seed"),
        ("+trainer.nonsense=1", "a key of docs/configuration.md"),
    ],
)
def test_unknown_key(config: DictConfig, override: str, nearest: str) -> None:
    key = override[1:].split("=")[0]
    with pytest.raises(UserError) as refused:
        check_config(changed(config, override))
    for words in ("unknown key", f"got: {key};", f"expected: {nearest})", f"Fix: correct or remove {key}"):
        assert words in str(refused.value)


def test_unknown_key_inside_an_experiment(cli: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "more" / "experiment"
    folder.mkdir(parents=True)
    (folder / "typo.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /experiment/finetune_subj01_1h\n  - _self_\nprior:\n  dept: 3\n"
    )
    search = f"hydra.searchpath=[file://{folder.parent}]"
    cli.refuses(
        search, "+experiment=typo", "scale=tiny", says=("unknown key", "prior.dept", "prior.network.denoiser.depth")
    )


def test_each_job_of_a_sweep_is_validated(cli: CommandLine) -> None:
    code, out, err = cli("-m", *EXPERIMENT, "finetune.epochs=ten,1.5")
    assert code == 2
    assert "finetune.epochs has a wrong value (got: ten;" in out + err
    assert not cli.artifacts()


def test_a_group_that_is_null(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "optimizer=null", says=("optimizer", "got: optimizer=null", "adamw", "Fix: optimizer="))


def test_a_low_level_checkpoint_alone(cli: CommandLine) -> None:
    cli.refuses(*EXPERIMENT, "evaluate.low_level_checkpoint=x.pth", says=("low_level_checkpoint", "Fix: "))


def test_a_class_that_does_not_exist(config: DictConfig) -> None:
    wrong = "backbone._target_=mindeye_pl.models.parts.backbone.Bckbone"
    with pytest.raises(UserError, match=r"backbone\._target_ .*expected: mindeye_pl\.models.*\.Backbone\)"):
        check_config(changed(config, wrong))
