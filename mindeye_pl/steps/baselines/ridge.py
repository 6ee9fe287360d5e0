"""Ridge regression from a subject's trials to the target tokens of their images.

A ridge regression is fitted to the same sessions as the model. It needs no validation images: every choice is made on
held-out predictions of its training images. So the validation images of trainings are among these, its artifact
depends on no seed, and all jobs of a sweep over seeds share it.

Legend: n test images, N training images, k validation images, V voxels, S tokens, D token width, T = S D.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from mindeye_pl.console import console
from mindeye_pl.data.datamodule import TrialDataModule
from mindeye_pl.data.layout.betas import read_noise_free
from mindeye_pl.data.layout.test_set import average_repetitions
from mindeye_pl.data.layout.trials import NumSessions
from mindeye_pl.engine.settings import Settings
from mindeye_pl.engine.step import RECONSTRUCTIONS, Input, Inputs, Step, Work
from mindeye_pl.metrics.rescaling import AS_PREDICTED, RESCALINGS, Spread, best_rescaling
from mindeye_pl.metrics.retrieval import retrieval_accuracy
from mindeye_pl.metrics.ridge_tuning import PER_TARGET, RidgeFit, tuned_ridge
from mindeye_pl.steps.brain.trials import subject_tags, trials_label
from mindeye_pl.steps.inputs.splits import Split, test_data
from mindeye_pl.steps.inputs.targets import ImageTargets, Targets
from mindeye_pl.store.atomic import write_json, write_tensors
from mindeye_pl.store.own_files import read_json, read_tensors

#: Files: predictions and statistics, and the choices in plain data.
PREDICTIONS, CHOICES = "ridge.safetensors", "ridge.json"

#: Settings of the trials that a baseline is fitted to, and of the test set.
BASELINE_TRIALS = (
    *("data.subject", "data.num_sessions", "data.betas", "data.repetitions", "data.test_split"),
    *("data.max_repetitions", "metrics.ridge_alphas"),
)


@dataclass(frozen=True)
class RidgePrediction:
    """Predictions of a tuned ridge regression, as predicted.

    Attributes:
        stimulus_ids: `(n,)` int64 of the test images, ascending.
        predictions: `(n, ...)` float32 of the test images.
        validation_ids: `(k,)` int64 of training images.
        validation: `(k, ...)` float32, held-out predictions of these.
        spread: statistics by which predictions are rescaled.
        choices: plain data of `RidgeFit`, and `rescaling` with the `scores` that chose it.
    """

    stimulus_ids: Tensor
    predictions: Tensor
    validation_ids: Tensor
    validation: Tensor
    spread: Spread
    choices: dict[str, Any]

    @classmethod
    def of_fit(cls, fit: RidgeFit, stimulus_ids: Tensor, shape: tuple[int, ...]) -> Self:
        """Return the predictions of a fit, in the shape of one image's targets."""
        predictions, validation = (
            torch.from_numpy(each).unflatten(1, shape) for each in (fit.predictions, fit.validation)
        )
        ids = torch.from_numpy(fit.validation_ids)
        return cls(stimulus_ids, predictions, ids, validation, Spread.of(vars(fit), shape), dict(fit.choices))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the predictions of a finished step."""
        stored = read_tensors(folder / PREDICTIONS)
        spread = Spread.of(stored, tuple(stored["mean"].shape))
        predictions, validation = stored["predictions"].float(), stored["validation"].float()
        ids = stored["stimulus_ids"], stored["validation_ids"]
        return cls(ids[0], predictions, ids[1], validation, spread, read_choices(folder))

    def write(self, folder: Path) -> None:
        """Write the files; predictions in half precision, as target tokens are stored."""
        ids = {"stimulus_ids": self.stimulus_ids, "validation_ids": self.validation_ids}
        halves = {"predictions": self.predictions.half(), "validation": self.validation.half()}
        tensors = ids | halves | vars(self.spread)
        write_tensors(folder / PREDICTIONS, {name: tensor.contiguous() for name, tensor in tensors.items()})
        write_json(folder / CHOICES, self.choices)

    def first_tokens(self, count: int) -> Self:
        """Return the predictions of the first tokens alone: without those of a caption."""
        statistics = (self.spread.mean, self.spread.std, self.spread.predicted_std)
        spread = Spread(*(each[:count] for each in statistics))
        both = (self.predictions[:, :count], self.validation[:, :count])
        return type(self)(self.stimulus_ids, both[0], self.validation_ids, both[1], spread, self.choices)

    @property
    def rescaled(self) -> Tensor:
        """The test images' predictions `(n, ...)` in the chosen rescaling."""
        return self.spread.rescale(self.predictions, self.choices["rescaling"])

    def choose_rescaling(self, score: Callable[[Tensor], float], count: int | None = None) -> dict[str, Any]:
        """Return `rescaling` and `scores` of each form, by a score of rescaled validation predictions `(k, ...)`.

        `count` takes the first validation images alone.
        """
        scores = {form: float(score(self.spread.rescale(self.validation[:count], form))) for form in RESCALINGS}
        return {"rescaling": best_rescaling(scores), "scores": scores}


class RidgeStep(Step):
    """Base of the regressions."""

    keys: ClassVar[tuple[str, ...]] = BASELINE_TRIALS
    artifact_type = RECONSTRUCTIONS

    def label(self, config: DictConfig) -> str:
        """Return subject and hours."""
        return trials_label(config)

    def tags(self, config: DictConfig) -> list[str]:
        """Return subject and hours."""
        return subject_tags(config)

    def inputs(self, config: DictConfig) -> Mapping[str, Input]:
        """Return trials, the images left out, and the target tokens."""
        return {"data": test_data(config), "split": Split(), "targets": Targets()}


class RidgeTokens(RidgeStep):
    """Predicts the target tokens of the test images; retrieval scores them, and images are drawn from them."""

    name = "ridge_tokens"
    title = "Ridge regression to tokens"

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit, choose the rescaling for retrieval, and write the predictions."""
        targets = inputs["targets"]
        tokens = _TokensOfImages(targets)
        found = fit_trials(
            ridge_trials(inputs, settings), tokens, settings.metrics.ridge_alphas, targets.embeddings.device
        )
        _finish(found, tokens, work, self.title)


class RidgeNoiseFree(RidgeStep):
    """Predicts the target tokens from the noise-free responses of all sessions of a simulation: a ceiling."""

    name = "ridge_noise_free"
    title = "Ridge regression without noise"
    keys = ("data.subject", "data.test_split", "metrics.ridge_alphas")
    runtime_keys = ("data.betas", "data.repetitions", "data.max_repetitions")

    def label(self, config: DictConfig) -> str:
        """Return the subject; all of its hours are used."""
        return f"subj{config.data.subject:02d}"

    def tags(self, config: DictConfig) -> list[str]:
        """Return the subject; all of its hours are used."""
        return [f"subj{config.data.subject:02d}", "hours=all"]

    def build(self, settings: Settings, inputs: Inputs, work: Work) -> None:
        """Fit, choose the rescaling for retrieval, and write the predictions."""
        targets, dataset, subject = inputs["targets"], inputs["data"], settings.data.subject
        tokens = _TokensOfImages(targets)
        data = ridge_trials(inputs, settings, num_sessions="all")
        ids = np.unique(data.train_trials[0].stimulus_ids)
        test_ids = dataset.test_ids(subject, settings.data.test_split, inputs["split"])
        clean, test_clean = (read_noise_free(dataset.layout, subject, each) for each in (ids, test_ids))
        rows, penalties = tokens(ids), list(settings.metrics.ridge_alphas)
        fit = tuned_ridge(
            clean, ids, rows.reshape(len(ids), -1), test_clean, penalties, device=targets.embeddings.device
        )
        found = RidgePrediction.of_fit(fit, torch.from_numpy(test_ids), rows.shape[1:])
        _finish(found, tokens, work, self.title)


RIDGE_TOKENS, RIDGE_NOISE_FREE = RidgeTokens(), RidgeNoiseFree()


@dataclass(frozen=True)
class _TokensOfImages:
    """Target tokens `(N, S, D)` float16 of image ids `(N,)`."""

    targets: ImageTargets

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return self.targets.true_tokens(ids).numpy()

    @property
    def count(self) -> int:
        """S, without the tokens of a caption."""
        count: int = self.targets.embedder.settings.num_tokens
        return count


def _finish(found: RidgePrediction, tokens: _TokensOfImages, work: Work, title: str) -> None:
    """Choose the rescaling for retrieval, and write the predictions."""
    found.choices.update(choose_for_retrieval(found.first_tokens(tokens.count), tokens))
    found.write(work.folder)
    console.print(f"  {title.lower()}: {describe_choices(found.choices)}")


def ridge_trials(inputs: Inputs, settings: Settings, num_sessions: NumSessions | None = None) -> TrialDataModule:
    """Return all training trials in the sessions in use, unless others are asked for, and the test set."""
    dataset, data = inputs["data"], settings.data
    return TrialDataModule(
        dataset.layout.root,
        [data.subject],
        cache_dir=dataset.cache,
        num_sessions=num_sessions or data.num_sessions,
        betas=data.betas,
        repetitions=data.repetitions,
        max_repetitions=data.max_repetitions,
        test_split=data.test_split,
        left_out=inputs["split"],
        validation_fraction=0,
    )


def fit_trials(
    data: TrialDataModule, targets: Callable[[np.ndarray], np.ndarray], penalties: Sequence[float], device: torch.device
) -> RidgePrediction:
    """Return the tuned regression from a subject's trials to the targets `(N, ...)` of image ids `(N,)`."""
    (trials,), (subject,) = data.train_trials, data.subjects
    betas = data.normalised_betas(trials)  # (trials, V)
    brains = data.test_set(subject)
    test_voxels = average_repetitions(brains.voxels, brains.weights).numpy()  # (n, V)
    rows = targets(np.unique(trials.stimulus_ids))  # (N, ...)
    flat = rows.reshape(len(rows), -1)
    fit = tuned_ridge(betas, trials.stimulus_ids, flat, test_voxels, list(penalties), device=device)
    return RidgePrediction.of_fit(fit, brains.stimulus_ids, rows.shape[1:])


def choose_for_retrieval(found: RidgePrediction, tokens: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Return the rescaling with the best retrieval among the validation images, mean of both directions."""
    ids = found.validation_ids.numpy()
    order = np.argsort(ids)  # stores are read in ascending order
    true = torch.from_numpy(tokens(ids[order])).float()[np.argsort(order)][:, : found.validation.shape[1]]

    def retrieval(predicted: Tensor) -> float:
        pairs = ((predicted, true), (true, predicted))
        return float(np.mean([retrieval_accuracy(query=query, gallery=gallery) for query, gallery in pairs]))

    return found.choose_rescaling(retrieval)


def read_choices(folder: Path) -> dict[str, Any]:
    """Return the choices of a finished baseline."""
    choices: dict[str, Any] = read_json(folder / CHOICES)
    return choices


def describe_choices(choices: Mapping[str, Any]) -> str:
    """Return how a regression was tuned, in words, and whether it chose an end of the penalties' grid.

    Choices of another baseline are its `description`.
    """
    if (words_of_other := choices.get("description")) is not None:
        return str(words_of_other)
    trials = {"single": "single trials", "averaged": "trials averaged by image"}[choices["trials"]]
    each = choices["penalty"] == PER_TARGET
    penalty = "a penalty for each target" if each else f"penalty {next(iter(choices['penalties']))}"
    words = [trials, penalty, f"held-out R² {choices['r2']:.3f}"]
    if (form := choices.get("rescaling", AS_PREDICTED)) != AS_PREDICTED:
        words.append(f"rescaled {form}")
    ends = {"smallest": choices["at_lowest"], "largest": choices["at_highest"]}
    words += [f"{100 * part:.3g} % of the targets at the {end} penalty" for end, part in ends.items() if part]
    return ", ".join(words)
