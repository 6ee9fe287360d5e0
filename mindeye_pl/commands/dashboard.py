"""The dashboard of an experiment's W&B project: saved where W&B is online, else printed."""

import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mindeye_pl.console import console
from mindeye_pl.errors import UserError
from mindeye_pl.tracking.dashboard import build_view, save_view, spec_of
from mindeye_pl.tracking.mode import has_key


def make_dashboard(config: DictConfig) -> None:
    """Save the view that `conf/tracking` describes; with `plan=true`, or offline, print it as JSON.

    Raises:
        UserError: without W&B as the logger, its extra, or a key if online; for an invalid description; if the server
            has no such entity or project.
    """
    logger = config.logger.get("wandb")
    if logger is None:
        got = f"logger={','.join(config.logger) or 'none'}"
        raise UserError("a dashboard is a view of W&B", got=got, fix="logger=wandb")
    dashboard: Any = OmegaConf.to_container(config.tracking, resolve=True)
    view = build_view(dashboard, entity=logger.entity, project=logger.project)
    if config.plan or logger.mode != "online":
        content = {"entity": logger.entity, "project": logger.project, "name": view.display_name, "view": view.name}
        print(json.dumps(content | {"spec": spec_of(view)}, indent=1))  # and nothing else, for programs that read it
        return
    if not has_key():
        fix = "wandb login, or WANDB_API_KEY; logger.wandb.mode=offline prints it"
        raise UserError("logger.wandb.mode=online without a W&B key", fix=fix)
    console.print(f"dashboard: {save_view(view)}", markup=False)
