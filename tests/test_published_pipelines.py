"""`scale=paper fidelity=published` is each published pipeline, fact by fact, and docs/fidelity.md says the same.

The facts are those of the specs of the three systems; `section` is where their spec has them. Steps are counted on
synthetic trials with the numbers of trials, images and sessions that the published trainings had.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.config import compose_config
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.trials import Trials
from mindeye_pl.data.nsd import constants as nsd
from mindeye_pl.nn.diffusion.refiner import BEGIN, STEPS
from tests.data.small_nsd import make_trials

PAGE = Path(__file__).parent.parent / "docs" / "fidelity.md"
#: The command of each system's paper.
COMMANDS = {
    "MindEye2": ("+experiment=finetune_subj01_all", "model=mindeye2"),
    "MindEye1": ("+experiment=scratch", "model=mindeye1"),
    "Mind Reader": ("+experiment=scratch", "model=mind_reader"),
}
NEGATIVE_PROMPT = (
    "painting, extra fingers, mutated hands, poorly drawn hands, poorly drawn face, deformed, ugly, blurry, "
    "bad anatomy, bad proportions, extra limbs, cloned face, skinny, glitchy, double torso, extra arms, extra hands, "
    "mangled fingers, missing lips, ugly face, distorted face, extra legs, anime"
)


class Fact(NamedTuple):
    """A published number or choice, where the configuration has it, and where the spec does."""

    system: str
    key: str  # of the configuration, or of `COUNTED`
    value: Any
    section: str


FACTS = [
    *(
        Fact("MindEye2", *fact)
        for fact in (
            ("scale.hidden_dim", 4096, "0"),
            ("pretrain.num_sessions", "all", "1.4"),
            ("pretrain.epochs", 150, "0"),
            ("pretrain.batch_size", 42, "0"),
            ("steps of pretraining", 714 * 150, "1.4"),
            ("finetune.epochs", 150, "0"),
            ("finetune.batch_size", 24, "0"),
            ("steps of fine-tuning", 1250 * 150, "1.4"),
            ("steps of fine-tuning, 1 session", 31 * 150, "1.4"),
            ("scale.max_lr", 3e-4, "6.6"),
            ("trainer.precision", "16-mixed", "6.6"),
            ("objective.mixup_fraction", 0.33, "6.1"),
            ("objective.prior_scale", 30, "6.3"),
            ("objective.low_level_scale", 0.5, "6.4"),
            ("finetune.keep", "last", "6.8"),
            ("data.validation_fraction", 0, "1.4"),
            ("data.split", "standard", "1.2"),
            ("data.test_split", "new_test", "1.3"),
            ("data.sampling", "published", "1.4"),
            ("data.repetitions", "published", "1.5"),
            ("data.averaging", "outputs", "1.5"),
            ("data.betas", "as_published", "1.6"),
            ("data.beta_dtype", "float16", "1.1"),
            ("backbone.network.mixer", "published", "3.2"),
            ("objective.mixco_diagonal", "published", "12"),
            ("objective.mixco_permutation", "published", "12"),
            ("finetune.inherit_bias", "published", "6.7"),
            ("alignment.gain_decay", "published", "6.6"),
            ("low_level.network.norms", "published", "3"),
            ("embedder.network.input_range", "published", "5"),
            ("metrics.target_size", 256, "1.1"),
            ("metrics.names", "published", "6.8"),
            ("prior.sample_steps", 20, "4.5"),
            ("reconstruct.prior_samples", 1, "4.5"),
            ("unclip.steps", 38, "7.5"),
            ("unclip.guidance", 5, "7.5"),
            ("unclip.offset", 0.04, "7.5"),
            ("captioner.max_length", 20, "8"),
            ("refine.name", "sdxl_img2img", "9"),
            ("refine.weights.file", "zavychromaxl_v30.safetensors", "9"),
            ("refine.input_size", 256, "9"),
            ("refine.guidance", 5, "9"),
            ("refine.negative_prompt", NEGATIVE_PROMPT, "9"),
            ("steps of refinement", 12, "9"),
            ("refine.blend", 0, "9"),
            ("protocol.blend", 0.25, "9"),
            ("protocol.size", 256, "10"),
            ("protocol.pixel_size", 425, "10"),
            ("protocol.antialias", False, "10"),
        )
    ),
    *(
        Fact("MindEye1", *fact)
        for fact in (
            ("scale.hidden_dim", 4096, "4.1"),
            ("finetune.start", "scratch", "1"),
            ("finetune.epochs", 240, "6"),
            ("finetune.batch_size", 32, "6"),
            ("steps of fine-tuning", 66_240, "6"),
            ("scale.max_lr", 3e-4, "6"),
            ("objective.mixup_fraction", 0.33, "5.1"),
            ("objective.prior_scale", 30, "5.3"),
            ("finetune.keep", "last", "6"),
            ("data.num_sessions", 37, "2.2"),
            ("data.test_split", "test", "2.2"),
            ("data.split", "standard", "2.2"),
            ("data.validation_fraction", 0, "2.2"),
            ("data.sampling", "by_image", "2.3"),
            ("data.averaging", "voxels", "8"),
            ("prior.sample_steps", 100, "4.3"),
            ("unclip.steps", 20, "8"),
            ("unclip.guidance", 3.5, "8"),
            ("unclip.strength", 0.85, "8"),
            ("unclip.draft_range", "published", "8"),
            ("reconstruct.candidates", 16, "8"),
            ("refine", None, "8"),
            ("protocol.blend", 0, "10"),
        )
    ),
    *(
        Fact("Mind Reader", *fact)
        for fact in (
            ("data.subject", 1, "2.1"),
            ("data.num_sessions", 37, "2.1"),
            ("data.split", "image_wise_85", "2.3"),
            ("data.sampling", "by_trial", "2.1"),
            ("data.repetitions", "single", "2.1"),
            ("data.validation_fraction", 0, "2.3"),
            ("data.validate_on", "tested", "2.3"),
            ("finetune.start", "scratch", "1"),
            ("finetune.keep", "best_validation", "4.2"),
            ("finetune.epochs", 80, "4.2"),
            ("objective.first_share", 0.5, "4.2"),
            ("finetune.batch_size", 32, "4.2"),
            ("objective.batch_growth", 4, "4.2"),
            ("steps of fine-tuning", 40 * (24_000 // 32) + 40 * (24_000 // 128), "4.2"),
            ("optimizer._target_", "torch.optim.Adam", "4.2"),
            ("scale.max_lr", 2e-4, "4.2"),
            ("image_mapper.weight_decay", 1e-5, "4.2"),
            ("scheduler.factor", 0.8, "4.2"),
            ("scheduler.every", 10, "4.2"),
            ("scheduler.moments", "published", "4.2"),
            ("scheduler.restart", "published", "4.2"),
            ("learning rate at the start of stage b", 2e-4, "4.2"),
            ("objective.outputs", "published", "3.3"),
            ("generator.condition", "both", "5.2"),
            ("generator.mappers", "frozen", "7.1"),
            ("generator.objective.latents", "zeros_mixed", "5.3"),
            ("generator.projection_reduction", "batch_sum", "6"),
            ("generator.objective.head_scale", 10, "7"),
            ("generator.objective.clip_scale", 10, "7"),
            ("generator.batch_size", 16, "7"),
            ("refine", None, "1"),
            ("protocol.blend", 0, "8"),
        )
    ),
]


@pytest.fixture(scope="module", autouse=True)
def _fresh_hydra() -> Iterator[None]:
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def configs() -> dict[tuple[str, str], DictConfig]:
    """The configuration of each system's command by fidelity."""
    return {
        (system, fidelity): compose_config([*command, "scale=paper", "data=nsd", f"fidelity={fidelity}"])
        for system, command in COMMANDS.items()
        for fidelity in ("published", "corrected")
    }


def training_trials(subject: int, images: int, sessions: int, trials: int) -> Trials:
    """Trials of as many distinct images, evenly over sessions."""
    return make_trials(subject * 10_000 + np.arange(trials) % images, -(-trials // sessions), subject)


def count_steps(config: DictConfig, node: str, trials: list[Trials], num_sessions: Any = "all") -> int:
    """Optimiser steps of a training on these trials, by the samplers of its data module."""
    wanted, data = config[node], config.data
    chosen = {key: data[key] for key in ("sampling", "validation_fraction", "trials_per_session")}
    subjects = [each.subject for each in trials]
    sizes = {"num_sessions": num_sessions, "batch_size": wanted.batch_size}
    module = TrialDataModule("nsd", subjects, cache_dir="cache", seed=config.seed, **sizes, **chosen)
    module.__dict__["trials"] = trials
    objective = instantiate(config.objective)
    module.growth = objective.growth(wanted.epochs) if hasattr(objective, "growth") else None
    return sum(module.batches_of_epochs(wanted.epochs))


def steps_of_pretraining(config: DictConfig) -> int:
    subjects = [subject for subject in nsd.SUBJECTS if subject != config.data.subject]
    sessions = {subject: nsd.SESSION_COUNTS[subject] for subject in subjects}
    return count_steps(config, "pretrain", [training_trials(s, 225 * n, n, 675 * n) for s, n in sessions.items()])


def steps_of_one_session(config: DictConfig) -> int:
    return count_steps(config, "finetune", [training_trials(1, 400, 1, 675)], num_sessions=1)


def steps_of_finetuning(config: DictConfig) -> int:
    """Steps on 40 sessions, on MindEye1's 8,859 images, or on 24,000 trials of Mind Reader."""
    images, sessions, trials = {
        "published": (9_000, 40, 27_000),
        "corrected": (9_000, 40, 27_000),
        "by_image": (8_859, 37, 25_000),
        "by_trial": (8_364, 37, 24_000),
    }[config.data.sampling]
    return count_steps(config, "finetune", [training_trials(1, images, sessions, trials)])


def rate_of_stage_b(config: DictConfig) -> float:
    """Learning rate in the first epoch of the second half, with one step in each epoch."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=config.optimizer.lr)
    schedule = instantiate(config.scheduler)(optimizer, iterations_per_epoch=[1] * config.finetune.epochs)
    for _ in range(config.finetune.epochs // 2):
        optimizer.step()
        schedule.step()
    return optimizer.param_groups[0]["lr"]


#: Facts that follow from several keys.
COUNTED: dict[str, Callable[[DictConfig], Any]] = {
    "steps of pretraining": steps_of_pretraining,
    "steps of fine-tuning": steps_of_finetuning,
    "steps of fine-tuning, 1 session": steps_of_one_session,
    "steps of refinement": lambda _: STEPS - BEGIN,
    "learning rate at the start of stage b": rate_of_stage_b,
}


def value_of(config: DictConfig, key: str) -> Any:
    return COUNTED[key](config) if key in COUNTED else OmegaConf.select(config, key, default=None)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact.system}: {fact.key}")
def test_the_papers_command_composes_to_the_published_value(configs: dict, fact: Fact) -> None:
    assert value_of(configs[fact.system, "published"], fact.key) == fact.value, f"spec, section {fact.section}"


def test_published_is_the_default(configs: dict) -> None:
    for system, command in COMMANDS.items():
        default = compose_config([*command, "scale=paper", "data=nsd"])
        assert OmegaConf.to_container(default) == OmegaConf.to_container(configs[system, "published"])


class Row(NamedTuple):
    """A row of the page's table; the values are read as YAML."""

    system: str
    key: str
    published: Any
    corrected: Any


def rows() -> list[Row]:
    """Rows of the table, each with what stands in backticks in the columns of the key and of both presets."""
    found = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 7 and cells[0] in COMMANDS:
            key, *values = (re.match(r"`([^`]+)`", cells[column])[1] for column in (2, 5, 6))  # type: ignore[index]
            found.append(Row(cells[0], key, *map(yaml.safe_load, values)))
    return found


def same(found: Any, expected: Any) -> bool:
    return found == (pytest.approx(expected) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.system}: {row.key}")
def test_the_page_has_the_composed_values(configs: dict, row: Row) -> None:
    published, corrected = (value_of(configs[row.system, fidelity], row.key) for fidelity in ("published", "corrected"))
    assert same(published, row.published)
    # The images held out are drawn by their ids, so that their number is known for the dataset alone.
    counted = row.key == "steps of fine-tuning" and row.published != row.corrected
    assert corrected == pytest.approx(row.corrected, rel=0.01) if counted else same(corrected, row.corrected)


def test_the_page_has_every_fact_and_every_option_of_fidelity(configs: dict) -> None:
    on_page = {(row.system, row.key) for row in rows()}
    assert not {(fact.system, fact.key) for fact in FACTS} - on_page
    different = {
        option
        for (system, key) in on_page
        if key not in COUNTED
        for option in re.findall(r"fidelity\.(\w+)", str(raw_value(configs[system, "published"], key)))
    }
    assert set(configs["MindEye2", "published"].fidelity) == different


def raw_value(config: DictConfig, key: str) -> Any:
    """Return a value with its interpolations unresolved; None for a key that the system lacks."""
    node, _, name = key.rpartition(".")
    found = OmegaConf.select(config, node) if node else config
    return OmegaConf.to_container(found, resolve=False).get(name)
