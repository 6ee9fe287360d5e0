"""A summary that is written here, for tests of tables and claims."""

from typing import Any


def score(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "interval": [low, high], "num_images": 100, **more}


def summary(**more: Any) -> dict[str, Any]:
    retrieval = {"chance": 0.01, "pool_size": 100}
    return {
        "experiment": "sweeps/hours_subj01",
        "command": "python -m mindeye_pl -m +experiment=sweeps/hours_subj01",
        "revisions": ["0123456789ab"],
        "changes": False,
        "version": "0.1.0",
        "simulated": True,
        "seeds": [1, 2, 3],
        "columns": {
            "image_retrieval": {"title": "Image retrieval", "form": "percent", "higher_is_better": True},
            "pixcorr": {"title": "PixCorr", "form": "number", "higher_is_better": True},
        },
        "rows": {
            "0.25 h, scratch": {"image_retrieval": score(0.253, 0.19, 0.311, **retrieval)},
            "0.25 h, pretrained": {
                "image_retrieval": score(0.7555, 0.69, 0.82, **retrieval),
                "pixcorr": score(0.6971, 0.660, 0.729),
            },
            "0.25 h, scratch: ridge": {"image_retrieval": {"value": 0.4, **retrieval, "num_images": 100}},
        },
        "differences": {
            "0.25 h: pretrained − scratch": {
                "image_retrieval": score(0.515, 0.44, 0.59),
                "pixcorr": score(0.138, 0.109, 0.175),
            }
        },
        "findings": ["By image retrieval pretraining is worth 3.3 times the data at 0.25 h, 95 % interval 2.5 to 4.9."],
        **more,
    }
