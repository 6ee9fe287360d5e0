"""Every option of every group and every experiment composes, resolves and builds what it describes."""

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.conf_files import conf_dir
from mindeye_pl.config import compose_config, experiment_overrides
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.steps.brain.bottleneck import FIT_BOTTLENECK
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.training.build import build_model, empty_model, parameter_counts
from mindeye_pl.training.trained_weights import choose_trained_weights, trained_counts

CONF = conf_dir()
EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix("")) for path in (CONF / "experiment").rglob("*.yaml")
)
OPTIONS = sorted(
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in CONF.glob("*/*.yaml")
    if path.parent.name not in ("experiment", "hydra")
)
#: Groups that no other one reads: one configuration holds an option of each.
ALONE = (
    *("callbacks", "captioner", "features", "foundation", "index", "logger", "maps", "metrics", "optimizer", "paths"),
    *("pipeline", "protocol", "refine", "scheduler", "simulation", "text_embedder", "tracking", "trainer"),
    *("unclip", "vae", "weights"),
)
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
#: Groups that one system alone has.
OF_MIND_READER = ("image_mapper=", "caption_mapper=", "generator=lafite")
SCALES = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))
#: Keys below `scale` that code and sweeps read.
READ_BY_CODE = {"name", "sweep"}
FIDELITY = list(OmegaConf.load(CONF / "fidelity" / "published.yaml"))


def group_of(option: str) -> str:
    return option.partition("=")[0]


def of_groups_alone() -> list[list[str]]:
    """The options of each of the groups `ALONE`."""
    return [[option for option in OPTIONS if group_of(option) == group] for group in ALONE]


@pytest.fixture(autouse=True)
def _fresh_hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


def resolved(*overrides: str) -> DictConfig:
    config = compose_config(list(overrides))
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    return config


def build(config: DictConfig) -> dict[str, int]:
    """Parameters of each part, on the meta device; optimiser and schedule as they would be made."""
    counts = parameter_counts(config, [nsd.VOXEL_COUNTS[config.data.subject]])
    optimizer = instantiate(config.optimizer)([torch.zeros(1, requires_grad=True)])
    instantiate(config.scheduler)(optimizer, iterations_per_epoch=[2] * 3)
    return counts


@pytest.mark.parametrize("option", [one for one in OPTIONS if group_of(one) not in ALONE])
def test_every_option_of_every_group(option: str) -> None:
    build(resolved(option, *(["model=mind_reader"] if option.startswith(OF_MIND_READER) else [])))


@pytest.mark.parametrize("options", zip_longest(*of_groups_alone()), ids=str)
def test_every_option_of_groups_that_stand_alone(options: tuple[str | None, ...]) -> None:
    build(resolved(*filter(None, options)))


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=pytest.mark.slow if re.search("subj0[257]", name) else ()) for name in EXPERIMENTS],
)
def test_every_experiment(experiment: str) -> None:
    config = resolved(f"+experiment={experiment}", "scale=tiny")
    assert build(config)
    assert config.data.subject not in config.pretrain.subjects
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    assert f"+experiment={experiment}" in text.splitlines()[1], "its command stands in its first comment"
    repeated = [
        key for key in config.scale if key not in ("name", "sweep") and re.search(rf"^\s*{key}:", text, re.MULTILINE)
    ]
    assert not repeated, "an experiment repeats no number of scale"


def test_paper_scale_has_the_papers_parameter_counts() -> None:
    config = resolved("+experiment=finetune_subj01_1h", "scale=paper", "data=nsd")
    counts = build(config)
    assert counts["alignment"] == 64_409_600
    assert (
        counts["backbone"] + counts["low_level"] == 1_903_020_028
    )  # the published backbone holds the low-level branch
    assert counts["prior"] == 259_865_216


def test_paper_scale_has_stableminds_number_of_adapter_parameters() -> None:
    pytest.importorskip("peft")
    config = resolved("+experiment=finetune_subj01_1h", "scale=paper", "data=nsd", "adaptation=[lora]")
    model = empty_model(config, [nsd.VOXEL_COUNTS[1]])
    choose_trained_weights(model, config.finetune.trainable, config.finetune.adapters)
    counts = trained_counts(model)
    assert counts.keys() == {"alignment", "backbone"}
    assert counts["alignment"] == 64_409_600
    # rank 8: four blocks of two layers, wide and of width 1, the map to 256 tokens of 1664, the retrieval head
    wide, tokens, head = 8 * 8 * 2 * 4096, 8 * (4096 + 256 * 1664), 3 * 8 * 2 * 1664
    assert counts["backbone"] == wide + 8 * 2 + tokens + head == 4_044_816


@pytest.mark.parametrize(
    ("adaptation", "learning"),
    [
        ("mindeye2", {"alignment": 64_409_600, "prior": 259_865_216 - 16}),  # rotary frequencies are constants
        ("one_hour", {"alignment": 64_409_600}),
        ("[clusters,episodes]", {"alignment": 15_724 * 512}),
        ("[episodes,alignment_alone,neighbours,linear_blur]", {"alignment": 64_409_600}),
        ("[closed_form,decay_to_start,alignment_alone]", {"alignment": 64_409_600}),
        ("[clusters,synthetic_trials]", {"alignment": 15_724 * 512}),
        ("[alignment_alone,prior_tuning,distillation]", {"alignment": 64_409_600}),
        ("[alignment_alone,prior_anatomy,episodes]", {"alignment": 64_409_600}),
    ],
)
def test_weights_that_learn_at_paper_scale(adaptation: str, learning: dict[str, int]) -> None:
    config = resolved("+experiment=finetune_subj01_1h", "scale=paper", "data=nsd", f"adaptation={adaptation}")
    FINETUNE.check(config)
    model = empty_model(config, [nsd.VOXEL_COUNTS[1]])
    choose_trained_weights(model, config.finetune.trainable, config.finetune.adapters)
    counts = trained_counts(model)
    assert learning.items() <= counts.items()
    assert counts.keys() == {"alignment"} | ({"backbone", "low_level", "prior"} if adaptation == "mindeye2" else set())


def test_a_bottleneck_at_paper_scale() -> None:
    config = resolved("+experiment=sweeps/bottleneck", "scale=paper", "data=nsd", "bottleneck.dimensions=0")
    FIT_BOTTLENECK.check(config)
    assert (config.bottleneck.dimensions, config.sweep.over) == (0, "bottleneck.dimensions")


def test_small_scale_is_the_lighter_published_model() -> None:
    config = resolved("+experiment=finetune_subj01_1h", "scale=small", "data=nsd")
    counts = build(config)
    assert "low_level" not in counts
    assert counts["alignment"] == 1024 * (15_724 + 1)
    assert counts["prior"] == 259_865_216


def test_paper_scale_has_mindeye1s_published_parameter_counts() -> None:
    config = resolved("+experiment=finetune_subj01_1h", "model=mindeye1", "scale=paper", "data=nsd")
    counts = build(config)
    assert counts["alignment"] + counts["backbone"] == 947_579_904
    assert counts["prior"] == 56_055_168 + 16  # the frozen rotary frequencies
    assert (config.finetune.epochs, config.finetune.batch_size) == (240, 32)
    assert (config.embedder.num_tokens, config.embedder.token_dim) == (257, 768)
    assert (config.prior.renormalise, config.prior.network.target_scale) == ("first_token", "sqrt_width")
    assert config.prior.sample_steps == config.prior.network.timesteps == 100
    assert (config.unclip.steps, config.unclip.guidance, config.reconstruct.candidates) == (20, 3.5, 16)
    assert (config.low_level.network.latent_size, config.maps.places, config.get("captioner")) == (64, 256, None)


def test_paper_scale_has_mind_readers_published_parameter_counts() -> None:
    config = resolved("+experiment=scratch", "model=mind_reader", "scale=paper", "data=nsd")
    assert build(config) == {"image_mapper": 1_156_929, "caption_mapper": 1_156_929}
    assert (config.finetune.epochs, config.finetune.batch_size, config.objective.batch_growth) == (80, 32, 4)
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.Adam", 2e-4)
    assert (config.scheduler.factor, config.scheduler.every) == (0.8, 10)
    assert (config.image_mapper.weight_decay, config.objective.clamp) == (1e-5, 1.5)
    assert (config.embedder.name, config.text_embedder.name, config.get("low_level")) == ("clip_b32", "clip_b32", None)


def test_a_caption_mapper_that_is_left_out_is_none() -> None:
    config = resolved("scale=tiny", "model=mind_reader", "caption_mapper=none")
    assert set(build(config)) == {"image_mapper"}


@pytest.mark.parametrize("model", MODELS)
def test_a_system_has_the_same_numbers_at_every_scale_and_each_is_used(model: str) -> None:
    configs = [compose_config([f"scale={scale}", f"model={model}"]) for scale in SCALES]
    numbers = {frozenset(config.scale) for config in configs}
    assert len(numbers) == 1, numbers
    used = {key for config in configs for key in scale_keys_in(OmegaConf.to_container(config))}
    assert next(iter(numbers)) == used | READ_BY_CODE


def scale_keys_in(node: object) -> set[str]:
    """Keys below `scale` that interpolations refer to."""
    if isinstance(node, dict | list):
        return set().union(*map(scale_keys_in, node.values() if isinstance(node, dict) else node))
    return set(re.findall(r"\bscale\.(\w+)", node)) if isinstance(node, str) and "${" in node else set()


@pytest.mark.parametrize("scale", SCALES)
def test_a_run_has_only_nodes_of_its_system(scale: str) -> None:
    mindeye2, mind_reader = (
        compose_config([f"scale={scale}", f"model={model}"]) for model in ("mindeye2", "mind_reader")
    )
    assert not {"generator", "text_embedder", "image_mapper", "caption_mapper"} & set(mindeye2)
    assert ("refine" in mindeye2) == (scale == "paper")
    assert not {"low_level", "prior", "alignment", "backbone", "captioner", "maps", "refine"} & set(mind_reader)
    assert "prior_samples" not in mind_reader.reconstruct


@pytest.mark.parametrize(
    "option", ["low_level=none", "ablation=no_prior", "unclip=none", "refine=none", "protocol.baselines=[]"]
)
def test_every_system_can_omit_a_part(option: str) -> None:
    for model in MODELS:
        assert build(resolved("scale=tiny", f"model={model}", option))


def test_choices_of_an_experiment_and_of_the_command_line_beat_the_preset(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    choices = "defaults:\n  - override /model: mindeye1\n  - override /embedder: openclip_l\n  - _self_\n"
    text = f"# @package _global_\n{choices}scale: {{max_lr: 0.5}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    folder = f"hydra.searchpath=[file://{tmp_path}]"
    config = resolved("+experiment=mine", "scale=paper", folder)
    assert (config.embedder.name, config.optimizer.lr, config.vae.name) == ("openclip_l", 0.5, "sd_512")
    config = resolved("+experiment=mine", "scale=paper", "embedder=laptop", "scale.max_lr=0.1", folder)
    assert (config.embedder.name, config.optimizer.lr) == ("laptop", 0.1)


def test_another_experiment_keeps_the_command_line_but_not_what_is_its_own() -> None:
    given = ["+experiment=finetune_subj02_all", "scale=tiny", "data.subject=2", "finetune.start=scratch", "seed=7"]
    assert experiment_overrides("pretrain", given) == ["+experiment=pretrain", "scale=tiny", "seed=7"]
    other = experiment_overrides("finetune data.subject=5 seed=1", given)
    assert other == ["+experiment=finetune", "data.subject=5", "seed=1", "scale=tiny"]


@pytest.mark.parametrize("name", ["finetune", "scratch"])
def test_rows_beside_an_experiment_are_of_its_subject(name: str) -> None:
    rows = resolved(f"+experiment={name}", "data.subject=5", "scale=tiny").report.compare
    configs = [resolved(*experiment_overrides(row, ["scale=tiny"])) for row in rows]
    assert {config.data.subject for config in configs} == {5}
    asked = [(config.finetune.start, config.data.num_sessions) for config in configs]
    assert asked == [("scratch", 1), ("pretrained", 1), ("scratch", "all"), ("pretrained", "all")]


def test_there_are_few_files() -> None:
    """A dataset, a pipeline and an adaptation are one file each; a system at a scale is one preset."""
    counted = [path for path in CONF.rglob("*.yaml") if path.parent.name not in ("data", "pipeline", "adaptation")]
    assert len(counted) < 196


@pytest.mark.parametrize(
    ("scale", "default"),
    [("laptop", "corrected"), ("tiny", "published"), ("small", "published"), ("paper", "published")],
)
def test_fidelity_by_scale(scale: str, default: str) -> None:
    """Only the laptop departs from the published code; the command line beats it."""
    assert resolved(f"scale={scale}").fidelity == resolved(f"scale={scale}", f"fidelity={default}").fidelity
    published = resolved("scale=laptop", "fidelity=published")
    assert published.backbone.network.mixer == "published"


@pytest.mark.parametrize("option", FIDELITY)
def test_each_fidelity_alone(option: str) -> None:
    """Corrected, where all others are as published."""
    word = OmegaConf.load(CONF / "fidelity" / "corrected.yaml")[option]
    config = resolved(f"fidelity.{option}={word}", "scale=tiny")
    build_model(config, [5])


def test_corrected_flips_every_fidelity_and_reaches_its_group() -> None:
    published, corrected = (resolved(f"fidelity={name}", "embedder=openclip_l") for name in ("published", "corrected"))
    assert set(published.fidelity) == set(corrected.fidelity)
    assert all(published.fidelity[option] != corrected.fidelity[option] for option in FIDELITY)
    for place in (
        "backbone.network.mixer",
        "objective.mixco_permutation",
        "objective.mixco_diagonal",
        "finetune.inherit_bias",
        "alignment.gain_decay",
        "backbone.gain_decay",
        "prior.gain_decay",
        "low_level.network.norms",
        "embedder.network.input_range",
        "data.sampling",
        "data.repetitions",
        "data.betas",
        "metrics.names",
    ):
        assert OmegaConf.select(published, place) != OmegaConf.select(corrected, place), place


def test_corrected_reaches_mind_readers_groups() -> None:
    published, corrected = (
        resolved("model=mind_reader", "scale=paper", f"fidelity={name}") for name in ("published", "corrected")
    )
    for place in (
        *("objective.outputs", "generator.objective.latents", "generator.projection_reduction"),
        *("scheduler.moments", "scheduler.restart", "data.split", "data.repetitions"),
        *("data.validation_fraction", "data.validate_on"),
    ):
        assert OmegaConf.select(published, place) != OmegaConf.select(corrected, place), place


def test_laptop_reads_no_option_of_the_papers_pipelines() -> None:
    for model in MODELS:
        one, other = (resolved(f"model={model}", f"fidelity={name}") for name in ("published", "corrected"))
        for place in ("split", "validation_fraction", "validate_on", "averaging", "num_sessions", "test_split"):
            assert one.data[place] == other.data[place], place
        assert (one.data.validation_fraction, one.data.split) == (0.05, "standard")


def test_command_line_beats_experiment_beats_groups() -> None:
    assert resolved("+experiment=finetune_subj02_all").data.num_sessions == "all"
    config = resolved("+experiment=finetune_subj02_all", "data.num_sessions=2", "scale=tiny", "embedder=laptop")
    assert (config.data.num_sessions, config.data.subject, config.embedder.name) == (2, 2, "laptop")


def test_the_packaged_configuration_is_the_repositorys() -> None:
    assert (Path(CONF) / "config.yaml").is_file()


@pytest.mark.parametrize("part", ["low_level", "prior"])
def test_a_part_that_is_left_out_is_none(part: str) -> None:
    config = resolved("scale=tiny", f"{part}=none")
    model = build_model(config, [5])
    assert getattr(model, part) is None
    assert model.predict(torch.randn(1, 5)).tokens.shape == (1, 4, 16)
