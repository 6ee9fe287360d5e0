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
from mindeye_pl.sharing.folder import CARD, CONFIG, MARK, WEIGHTS, exporting, read_config, read_safetensors
from mindeye_pl.sharing.hub import fetch_folder, push_to_hub
from mindeye_pl.sharing.plain import describe, rebuild
from mindeye_pl.version import __version__


class Shareable(Recorded):
    """A recorded module with the methods that users know from other libraries of the hub.

    Why the hub's own mixin is not used: docs/decisions/0006-sharing-without-the-mixin.md.

    Attributes:
        facts: facts of its training, plain data; written with it and read back.
    """

    facts: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Record the arguments, and start without facts."""
        made = super().__new__(cls, *args, **kwargs)
        made.__dict__["facts"] = {}
        return made

    def save_pretrained(self, save_directory: str | Path, *, more: Mapping[str, Path] | None = None) -> None:
        """Writes `model.safetensors`, `config.json` and a card; an earlier export there is replaced.

        Args:
            save_directory: the folder.
            more: further files by the name that they get.

        Raises:
            UserError: if the folder holds something else or may not be written.
        """
        from safetensors.torch import save_file

        config = {MARK: __version__, "model": describe(self), "facts": self.facts}
        weights = {key: value.detach().cpu().contiguous() for key, value in self.state_dict().items()}
        kind = type(self).__name__
        with exporting(Path(save_directory)) as folder:
            save_file(weights, str(folder / WEIGHTS), {"format": "pt"})  # the header that other readers look for
            (folder / CONFIG).write_text(json.dumps(config, indent=1))
            (folder / CARD).write_text(card(kind, self.facts, __version__, whole=self._is_whole()))
            for name, path in (more or {}).items():
                (folder / name).write_bytes(path.read_bytes())

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        subfolder: str = "",
    ) -> Self:
        """The part of a folder or a hub repository, on the CPU in eval mode.

        Nothing in the folder is executed, and its configuration can name nothing but parts.

        Args:
            source: a folder, or `owner/name` of a repository on the hub.
            revision: branch, tag or commit of the repository.
            local_files_only: takes what is in the hub's cache and asks no network.
            subfolder: of the folder or the repository, for example one part.

        Raises:
            UserError: if it is missing, damaged, another program's, of another kind than this class, or names what is
                no part.
        """
        folder = fetch_folder(source, revision=revision, local_files_only=local_files_only, subfolder=subfolder)
        config = read_config(folder)
        try:
            with torch.device("meta"):  # no memory is taken and no random number drawn before the weights are there
                part = rebuild(config["model"])
        except UserError:
            raise
        except Exception as error:  # whatever a constructor says of arguments that somebody else wrote
            raise UserError(
                f"{folder / CONFIG} describes no part of this version",
                got=error,
                expected=f"what mindeye_pl {__version__} writes",
                fix=f"the version that wrote it, {config[MARK]}",
            ) from error
        if not isinstance(part, cls):
            raise UserError(f"{folder} holds another part", got=type(part).__name__, expected=cls.__name__)
        try:
            part.load_state_dict(read_safetensors(folder / WEIGHTS), assign=True)
        except RuntimeError as error:
            seen = str(error).splitlines()[-1].strip()
            raise UserError(f"{folder / WEIGHTS} does not fit {CONFIG}", got=seen, fix="export it again") from error
        assert not any(value.is_meta for value in (*part.parameters(), *part.buffers())), "a value that is not stored"
        part.facts = facts if isinstance(facts := config.get("facts"), dict) else {}
        return part.to("cpu").eval()  # Lightning's modules remember the meta device otherwise

    def push_to_hub(self, repository: str, *, private: bool = True) -> str:
        """Writes the part to a hub repository and returns the address of the commit.

        Args:
            repository: `owner/name`; made where it is missing.
            private: of a repository that is made now.

        Raises:
            UserError: see `hub.push_to_hub`.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_to_hub(folder, repository, private=private)

    def _is_whole(self) -> bool:
        return any(isinstance(child, Shareable) for child in self.children())
