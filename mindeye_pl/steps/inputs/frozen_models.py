"""The foundation models that a configuration names: where their files are, what identifies them, building them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from mindeye_pl.engine.step import Run
from mindeye_pl.errors import UserError
from mindeye_pl.store.fingerprint import fingerprint_file
from mindeye_pl.weights.loaders import bundled as laptop
from mindeye_pl.weights.locate import download_command, find_weights, is_given, is_whole

#: Keys of a group that say where its files are, and so nothing of what is made with them.
_PLACES = ("folder", "path", "weights", "captions", "made_by")

#: What makes the files of a group that does not say it itself.
_MADE_BY = "pipeline=pretrain_foundation"

#: The start of an unCLIP in training: a node of the group `foundation` that names files as the groups do.
UNCLIP_START = "foundation.unclip"

#: The groups, and in whose words a missing file of theirs is reported.
GROUPS = {
    "embedder": "the embedder's weights",
    "text_embedder": "the text embedder's weights",
    UNCLIP_START: "the unCLIP's start",
    "vae": "the low-level VAE's weights",
    "maps": "the low-level feature maps' weights",
    "unclip": "the unCLIP's weights",
    "captioner": "the captioner's weights",
    "refine": "the refiner's weights",
}

#: The steps that train foundation models.
FOUNDATION_STEPS = frozenset(
    {
        "pretrain_clip",
        "pretrain_vae",
        "pretrain_captioner",
        "pretrain_unclip",
        "pretrain_generator",
        "evaluate_generator",
        "evaluate_foundation",
    }
)

#: The step that looks at images and their captions and trains nothing, and those that train a generator under them.
SCREEN_STEP = "screen_captions"
_GENERATOR_STEPS = frozenset({"pretrain_generator", "finetune_generator"})


def groups_in_use(run: Run) -> list[str]:
    """The groups whose models this run loads."""
    config = run.config
    brains, from_sdxl = sees_brains(config), fine_tunes_sdxl(config)
    trains = brains and config.evaluate.reconstructions is None and list(config.pipeline.steps) != [SCREEN_STEP]
    embeds = brains or not _GENERATOR_STEPS.isdisjoint(config.pipeline.steps)
    used = {
        "embedder": embeds or from_sdxl,
        "text_embedder": embeds and config.get("text_embedder") is not None and reads_captions(config),
        UNCLIP_START: from_sdxl,
        **{group: trains and group in low_level_groups(config) for group in ("vae", "maps")},
        "unclip": makes_images(config) and not generator_from_scratch(config),
        "captioner": config.get("captioner") is not None and makes_images(config),
        "refine": config.get("refine") is not None and makes_images(config),
    }
    return [group for group in GROUPS if used[group]]


def sees_brains(config: DictConfig) -> bool:
    """Whether a step of the run is about brains; those that train foundation models are not."""
    return not FOUNDATION_STEPS.issuperset(config.pipeline.steps)


def reads_captions(config: DictConfig) -> bool:
    """Whether a step of the run embeds captions."""
    return has_part(config, "caption_mapper") or not (_GENERATOR_STEPS | {SCREEN_STEP}).isdisjoint(
        config.pipeline.steps
    )


def has_part(config: DictConfig, name: str) -> bool:
    """Whether the run's model has a part of this name."""
    return OmegaConf.select(config, f"model.{name}") is not None


def fine_tunes_sdxl(config: DictConfig) -> bool:
    """Whether the run trains an unCLIP from SDXL base."""
    return "pretrain_unclip" in config.pipeline.steps and config.foundation.unclip.start == "sdxl_base"


def low_level_groups(config: DictConfig) -> list[str]:
    """The groups whose models make what a low-level branch learns."""
    if config.get("low_level") is None:
        return []
    return ["vae", "maps"] if config.get("maps") is not None else ["vae"]


def makes_images(config: DictConfig) -> bool:
    """Whether the run makes reconstructions; those that the user brings are only scored."""
    own = config.evaluate.reconstructions is None
    return own and config.get("unclip") is not None and "reconstruct" in config.pipeline.steps


def generator_from_scratch(config: DictConfig) -> bool:
    """Whether the images are made by a generator that begins with no weights of a file."""
    generator = config.get("generator")
    return generator is not None and generator.start == "scratch"


def is_there(run: Run, group: str) -> bool:
    """Whether the group is in use and all its files are on this machine."""
    return run.config.get(group) is not None and None not in weight_files(run, group).values()


def weight_files(run: Run, group: str) -> dict[str, Path | None]:
    """The files of a group's weights by name, None for one that is not on this machine; empty for random weights."""
    config = node(run, group)
    if "files" in config:
        folder = Path(config.folder) if config.folder else laptop.SHIPPED
        return {name: folder / name if (folder / name).is_file() else None for name in config.files}
    return {released.file: find_weights(released, run.weights_folder) for released in _released(config).values()}


def node(run: Run, group: str) -> DictConfig:
    """A group's node of the configuration; `features.alexnet` is one of several in a group."""
    return OmegaConf.select(run.config, group)


def _released(config: DictConfig) -> Mapping[str, Any]:
    """The entries of `conf/weights` that a group needs, by the argument of its builder that takes the file."""
    weights = config.get("weights")
    if weights is None:
        return {}
    return {"path": weights} if "file" in weights else weights


def lacking_weights(run: Run, groups: Sequence[str] | None = None) -> list[str]:
    """The missing files of some groups, of all in use where None, each with what brings it."""
    lacks = []
    for group in groups_in_use(run) if groups is None else groups:
        config = node(run, group)
        commands = {
            entry.file: "no such file" if is_given(entry) else f"{download_command(entry)}, or paths.weights=FOLDER"
            for entry in _released(config).values()
        }
        for name, path in weight_files(run, group).items():
            if path is None:
                where = (
                    commands.get(name)
                    or f"not in {config.folder or 'the package'}; {config.get('made_by', _MADE_BY)} makes it"
                )
                lacks.append(f"{GROUPS[group]} {name} ({where})")
    return lacks


def check_whole(run: Run) -> None:
    """Looks at every weight file of this run before anything long begins; no tensor is read.

    Raises:
        UserError: naming the first file that is cut off or damaged.
    """
    for group in groups_in_use(run):
        for path in weight_files(run, group).values():
            if path is not None and not is_whole(path):
                fix = "copy or download it again"
                raise UserError(f"{path} is not whole", got=f"{path.stat().st_size} bytes", fix=fix)


def identity(run: Run, *groups: str) -> dict[str, Any]:
    """What determines the models of some groups: their settings and their files' fingerprints, not their places."""
    by = {}
    for group in groups:
        plain = run.plain(group)[group]
        for settings in (plain, plain["network"]):
            for place in _PLACES:
                settings.pop(place, None)
        files = {
            _short(name, path): fingerprint_file(path)
            for name, path in weight_files(run, group).items()
            if path is not None
        }
        by[group] = plain | {"files": files}
    return by


def _short(name: str, path: Path) -> str:
    """A file as its repository names it, whose folders may hold one name twice; of the user's own the name alone."""
    return path.name if Path(name).is_absolute() else str(Path(name).with_name(path.name))


def load_model(run: Run, group: str) -> Any:
    """The model of a group, on the CPU.

    Raises:
        UserError: if a file is missing or is not what it should be.
    """
    config = node(run, group)
    where = {argument: find_weights(released, run.weights_folder) for argument, released in _released(config).items()}
    try:
        return instantiate(config.network, **where, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from error
        commands = [download_command(released) for released in _released(config).values()]
        raise UserError(
            f"{config.name} could not be loaded", got=error.__cause__, fix="; ".join(commands) or None
        ) from error
