"""Table of the released files: present, missing or corrupt, and the commands that fetch them."""

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.steps.inputs.frozen_models import weights_folder
from mindeye_pl.weights.locate import download_command, find_weights, known_sha256, verify


def check_released_weights(config: DictConfig) -> None:
    """Print a table of all files of `conf/weights`, and below it the commands for the missing ones.

    Raises:
        UserError: at the end, if a file is incomplete or not the released one.
    """
    table = Table("name", "state", "what for", "licence", "saw COCO", box=None, pad_edge=False)
    commands, broken = [], []
    for name, released in config.weights.items():
        path, state = find_weights(released, weights_folder(config)), "missing"
        if path is None:
            commands.append(f"{name}: {download_command(released)}")
        else:
            try:
                verify(released, path)
                state = "present" if known_sha256(released) else "present, no checksum known"
            except UserError as error:
                state = "corrupt"
                broken.append(error)
        table.add_row(name, state, released.what, released.licence, released.saw_coco)
    console.print(table)
    for command in commands:
        console.print(Text(command, no_wrap=True, overflow="ignore"))
    if broken:
        raise broken[0]
