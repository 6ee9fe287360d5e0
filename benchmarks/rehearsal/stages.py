"""The commands of the rehearsal in their order, with the files that each one needs.

Architectures, files and the sizes of the networks' images are full, unless a stage says that it cuts them.
"""

from dataclasses import dataclass
from pathlib import Path

#: What is cut to run on two cores: the world and the work.
CUT = [
    "simulation=fullsize",
    "simulation.subjects=[1,2]",
    "simulation.num_sessions=2",
    "simulation.trials_per_session=30",
    "simulation.num_shared=2",
    "pretrain.batch_size=4",
    "pretrain.epochs=1",
    "pretrain.max_steps=3",
    "finetune.batch_size=4",
    "finetune.epochs=2",
    "finetune.max_steps=4",
    "unclip.steps=2",
    "unclip.batch_size=1",
    "scale.embed_batch_size=4",
]
MINDEYE2 = ["scale=small", "low_level=vae_blur", "maps=convnext", "refine=sdxl_img2img"]
REFINER_CUT = ["+refine.network.image_size=256"]  # 12 steps, two passes each, of 3.3 TFLOP at 768 pixels

#: The best combination at one hour; its prior needs two subjects beside the one whose hour is aligned.
ONE_HOUR = [
    "adaptation=one_hour",
    "simulation.subjects=[1,2,5]",
    "simulation.num_sessions=4",
    "finetune.episodes.per_subject=1",
    "finetune.episodes.batch_size=4",
    "finetune.episodes.epochs=1",
    "finetune.episodes.max_steps=3",
    "refine=none",
]

#: Networks of torch.hub under names without a checksum, which random weights do not have.
HUB = ("alexnet", "inception_v3", "efficientnet_b1", "swav_resnet50", "fid_inception")
SMALL = ("sd_vae", "convnext", "bigg_to_l", "git_large_coco", "gnet", "minilm", "clip_text_b32", "clip_text_l14")
CLIP = ("openclip_bigg", "openclip_l")
CONVERTED = "unclip6_epoch0_step110000.safetensors"
EXPORT = "export"

#: Loads an exported folder and predicts tokens of one trial.
IMPORT = """
import sys, torch, mindeye_pl
print(mindeye_pl.load(sys.argv[1]).reconstruct(torch.randn(1, 15724)).tokens.shape)
"""


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        title: row of the table.
        arguments: of `python -m mindeye_pl` after those of all stages; of `python` where `plain`.
        files: entries of `conf/weights` that are written before, if they are not there.
        unneeded: files that are removed afterwards, relative to the folder of weights.
        cut: what is smaller than in use, beside the world, the batches and the steps.
        stop_at: text in the output at which the command gets a SIGTERM.
        plain: whether the arguments are Python's own.
        code: exit code of a success.
    """

    title: str
    arguments: list[str]
    files: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    cut: str = ""
    stop_at: str | None = None
    plain: bool = False
    code: int = 0


def stages(weights: Path, work: Path) -> list[Stage]:
    """Return all stages; files lie in the folder `weights`, results in `work`."""
    unclip = weights / "pscotti/mindeyev2" / CONVERTED
    common = [
        "+experiment=finetune_subj01_1h",
        *CUT,
        "trainer=cpu",
        "logger=none",
        f"paths.weights={weights}",
        f"paths.outputs={work / 'outputs'}",
        *(f"weights.{name}.file={weights / name}.pth" for name in HUB),
    ]
    drawn = f"unclip.weights.file={unclip}"
    mindeye2 = [*common, *MINDEYE2, *REFINER_CUT, drawn]
    replaced = ("simulation.subjects=", "simulation.num_sessions=", "refine=", *REFINER_CUT)
    one_hour = [*(argument for argument in mindeye2 if not argument.startswith(replaced)), *ONE_HOUR]
    mindeye1 = [*common, "model=mindeye1", "scale=small", "reconstruct.candidates=1"]
    checkpoint = weights / "last.pth"
    paper = [
        *common,
        "scale=paper",
        f"unclip.weights.file={unclip}",
        "refine=none",
        f"evaluate.checkpoint={checkpoint}",
    ]
    convert = ["-m", "mindeye_pl.weights.convert", str(unclip.with_suffix(".ckpt")), str(unclip)]
    return [
        Stage("convert the unCLIP", convert, ("unclip",), (str(unclip.with_suffix(".ckpt")),), plain=True),
        Stage(
            "check the weights", [*mindeye2, "pipeline=check_weights"], (*HUB, *SMALL, "openclip_bigg", "openclip_l")
        ),
        Stage("simulate", [*mindeye2, "pipeline=simulate"]),
        Stage("embed and pretrain", [*mindeye2, "pipeline=pretrain"]),
        Stage("fine-tune, stopped", [*mindeye2, "pipeline.steps=[finetune]"], stop_at="step 2 of 4", code=143),
        Stage("fine-tune, resumed", [*mindeye2, "pipeline.steps=[finetune]"]),
        Stage("predict and retrieve", [*mindeye2, "pipeline.steps=[evaluate]"]),
        Stage(
            "reconstruct, caption and refine",
            [*mindeye2, "pipeline.steps=[reconstruct]"],
            ("zavychromaxl",),
            cut="unCLIP of 2 steps; refinement of 256 pixels",
        ),
        Stage("evaluate images", [*mindeye2, "pipeline=evaluate"], cut="unCLIP of 2 steps"),
        Stage("export", [*mindeye2, "pipeline=export", f"export.folder={work / EXPORT}"]),
        Stage("load the export", ["-c", IMPORT, str(work / EXPORT)], plain=True),
        Stage(
            "predict with a published checkpoint",
            [*paper, "pipeline.steps=[evaluate]"],
            ("mindeye2",),
            (str(checkpoint),),
        ),
        Stage(
            "MindEye1, from images to reconstructions",
            [*mindeye1, "pipeline.steps=[finetune,evaluate,reconstruct]"],
            ("versatile_diffusion_unet",),
            cut="Versatile Diffusion of 2 steps",
        ),
        Stage(
            "fit one hour",
            [*one_hour, "pipeline.steps=[finetune,evaluate]"],
            ("sd_vae", "convnext", "openclip_bigg"),
            cut="one episode for each pretraining subject",
        ),
    ]
