"""Saving of parts and systems to a folder or a hub repository, and rebuilding them from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch

from mindeye_pl.errors import UserError
from mindeye_pl.nn.recorded import Recorded
from mindeye_pl.sharing.card import card
from mindeye_pl.sharing.folder import CARD, CONFIG, MARK, WEIGHTS, assign, exporting, read_config, read_safetensors
from mindeye_pl.sharing.hub import fetch_folder, push_to_hub
from mindeye_pl.sharing.plain import describe, rebuild
from mindeye_pl.store.atomic import save_tensors
from mindeye_pl.version import __version__


class Shareable(Recorded):
    """A recorded module with the sharing methods of the hub's libraries.

    docs/decisions/0006-sharing-without-the-mixin.md explains why the hub's mixin is not used.
    """

    facts: dict[str, Any]  # facts of its training, plain data, saved and loaded with it

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments, and start without facts."""
        made = super().__new__(cls, *args, **kwargs)
        made.__dict__["facts"] = {}
        return made

    def save_pretrained(self, save_directory: str | Path, *, more: Mapping[str, Path] | None = None) -> None:
        """Write `model.safetensors`, `config.json` and a card to a folder, replacing an earlier export.

        `more` are further files by their names in the folder. Raises a UserError if the folder contains something else
        or may not be written.
        """
        config = {MARK: __version__, "model": describe(self), "facts": self.facts}
        weights = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        whole = any(isinstance(child, Shareable) for child in self.children())
        with exporting(Path(save_directory)) as folder:
            save_tensors(folder / WEIGHTS, weights, {"format": "pt"})  # other readers need this header
            (folder / CONFIG).write_text(json.dumps(config, indent=1))
            (folder / CARD).write_text(
                card(type(self).__name__, self.facts, __version__, whole=whole), encoding="utf-8"
            )
            for name, path in (more or {}).items():
                (folder / name).write_bytes(path.read_bytes())

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, local_files_only: bool = False, subfolder: str = ""
    ) -> Self:
        """Load the part of a folder or a hub repository, on the CPU in eval mode; arguments as `hub.fetch_folder`.

        Nothing in the folder is executed, and its configuration can name parts only. Raises a UserError if the folder
        is missing, damaged or of another program, or the part is of another class.
        """
        folder = fetch_folder(source, revision=revision, local_files_only=local_files_only, subfolder=subfolder)
        config = read_config(folder)
        try:
            with torch.device("meta"):  # without memory and random draws
                part = rebuild(config["model"])
        except UserError:
            raise
        except Exception as error:  # of a constructor with arguments that somebody else wrote
            expected, fix = f"a file of mindeye_pl {__version__}", f"the version that wrote it, {config[MARK]}"
            what = f"{folder / CONFIG} describes no part of this version"
            raise UserError(what, got=error, expected=expected, fix=fix) from error
        if not isinstance(part, cls):
            raise UserError(f"{folder} holds another part", got=type(part).__name__, expected=cls.__name__)
        try:
            assign(part, read_safetensors(folder / WEIGHTS))
        except RuntimeError as error:
            got = str(error).splitlines()[-1].strip()
            raise UserError(f"{folder / WEIGHTS} does not fit {CONFIG}", got=got, fix="export it again") from error
        assert not any(value.is_meta for value in (*part.parameters(), *part.buffers())), "a value that is not stored"
        part.facts = facts if isinstance(facts := config.get("facts"), dict) else {}
        return part.to("cpu").eval()  # Lightning's modules remember the meta device otherwise

    def push_to_hub(self, repository: str, *, private: bool = True) -> str:
        """Write the part to a hub repository and return the commit's URL; arguments and errors as `hub.push_to_hub`."""
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_to_hub(folder, repository, private=private)
