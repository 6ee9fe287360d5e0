"""Maps of the brain: their values computed in another way, the report, and what is refused before a training."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mindeye_pl.data.layout.betas import read_betas
from mindeye_pl.data.layout.paths import DataLayout
from mindeye_pl.steps.evaluation.brain_maps import BRAIN_MAPS, importance_maps
from mindeye_pl.steps.evaluation.encoder import load_encoder
from mindeye_pl.steps.inputs.brain_positions import VoxelPositions
from mindeye_pl.steps.inputs.encoder_features import encoder_features
from mindeye_pl.training.checkpoints import WEIGHTS
from tests.conftest import CommandLine
from tests.steps import opened
from tests.steps.evaluation.test_true_tokens import COMMAND, run

MAPS = (*COMMAND, "pipeline=brain_maps")
NAMES = ("noise_ceiling", "encoding_accuracy", "alignment_weight", "decoding_importance")


def test_planted_voxels_are_the_most_important() -> None:
    rng = np.random.default_rng(0)
    planted = np.array([3, 11, 20])
    weights, deviation = torch.from_numpy(0.01 * rng.standard_normal((16, 30))), 0.5 + rng.random(30)
    weights[:, planted] += torch.from_numpy(rng.standard_normal((16, 3)))
    weight, importance = importance_maps(weights, deviation)
    assert set(np.argsort(importance.values)[-3:]) == set(planted)
    np.testing.assert_allclose(weight.values, np.sqrt((weights.numpy() ** 2).sum(0)), rtol=1e-6)
    np.testing.assert_allclose(importance.values, weight.values * deviation, rtol=1e-6)
    # In other units of the voxels, the same map of them has the same importance.
    units = np.exp(rng.standard_normal(30))
    again = importance_maps(weights / torch.from_numpy(units), deviation * units)[1]
    np.testing.assert_allclose(again.values, importance.values, rtol=1e-5)


class Figures(HTMLParser):
    """Image types and texts of the section `brain-maps`."""

    def __init__(self, html: str):
        super().__init__()
        self.images: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append((str(found["alt"]), str(found.get("src"))[:22]))


@pytest.fixture
def mapped(cli: CommandLine, finished: Path) -> Path:
    """The artifact of the maps of the finished tiny run."""
    pytest.importorskip("nilearn", reason="needs pip install -e .[brain]")
    code, out, err = cli(*MAPS)
    assert code == 0, err
    assert "finetune: cached" not in out  # it is no step of the pipeline, and found finished
    return cli.made("brain_maps")


def test_the_maps_of_a_finished_run(cli: CommandLine, mapped: Path) -> None:
    content, of_run = json.loads((mapped / "maps.json").read_text()), run(f"paths.outputs={cli.outputs}")
    assert [one["name"] for one in content["maps"]] == list(NAMES)
    assert content["simulated"]
    assert content["absent"] == {}
    positions = of_run.open(VoxelPositions(1))
    volumes = {name: nibabel.load(mapped / f"{name}.nii.gz") for name in NAMES}
    for one in content["maps"]:
        image = volumes[one["name"]]
        np.testing.assert_allclose(image.affine, positions.affine, atol=1e-5)
        assert np.isfinite(image.get_fdata()).sum() == one["num_voxels"] == positions.num_voxels
        assert bytes(image.header["descrip"].item()).startswith(b"simulated, ")
        assert (mapped / f"{one['name']}_slices.png").stat().st_size > 10_000
        assert not list(mapped.glob("*surface*"))
    values = {name: positions.voxels(image.get_fdata()) for name, image in volumes.items()}

    layout = DataLayout(cli.made("simulate"))
    with h5py.File(layout.ncsnr) as file:
        ncsnr = file["subj01"][:].astype(float)
    ratio = values["noise_ceiling"] ** 2 / (1 - values["noise_ceiling"] ** 2) / ncsnr**2  # repetitions, about 3
    assert np.ptp(ratio) < 1e-3
    assert 1 < ratio.mean() <= 3.001

    weights = load_file(cli.made("finetune") / WEIGHTS)["alignment.network.linears.0.weight"]
    np.testing.assert_allclose(values["alignment_weight"], weights.double().norm(dim=0).numpy(), rtol=1e-5)
    deviation = values["decoding_importance"] / values["alignment_weight"]
    trials = opened.trials(of_run, [1], num_sessions=1).train_trials[0]
    np.testing.assert_allclose(deviation, read_betas(layout, 1, trials.beta_rows).std(0), rtol=1e-4)

    inputs = of_run.inputs(BRAIN_MAPS)
    brains = opened.trials(of_run, [1], num_sessions=1).test_set(1)
    measured = np.einsum("nrv,nr->nv", brains.voxels.numpy(), brains.weights.numpy())
    images = torch.from_numpy(inputs["data"].stimuli.read(brains.stimulus_ids.numpy())).float()
    predicted = load_encoder(inputs["ridge"]).predict(encoder_features(inputs["embedder"])(images).numpy())
    pairs = [np.corrcoef(predicted[:, voxel], measured[:, voxel])[0, 1] for voxel in range(positions.num_voxels)]
    np.testing.assert_allclose(values["encoding_accuracy"], pairs, atol=1e-5)

    labels = nibabel.load(mapped / "regions.nii.gz")
    assert labels.get_data_dtype() == np.int8
    numbers = positions.voxels(np.asarray(labels.dataobj))
    with h5py.File(layout.region_masks) as file:
        for name, number in content["regions"].items():
            np.testing.assert_array_equal(numbers == number, file[f"subj01/{name}"][:])


def test_the_report_shows_them(cli: CommandLine, mapped: Path) -> None:
    html = (cli.outputs / "reports" / "finetune_subj01_1h" / "index.html").read_text()
    (section,) = re.findall(r'<section id="brain-maps".*?</section>', html, re.DOTALL)
    shown = Figures(section).images
    assert [alt for alt, _ in shown] == [
        f"{title}, slices"
        for title in (
            "Noise ceiling",
            "Encoding accuracy",
            "Weight of the functional alignment",
            "Importance for decoding",
        )
    ]
    assert {source for _, source in shown} == {"data:image/png;base64,"}
    assert section.count("Unit: correlation across test images. Range ") == 2
    assert "no surface was given" in section
    assert '<body class="simulated">' in html  # which labels every caption
    assert 'href="#brain-maps"' in html


def test_surfaces_change_the_artifact_and_their_files_count(tmp_path: Path) -> None:
    def fingerprint(*more: str) -> str:
        return run(*more).spec(BRAIN_MAPS).fingerprint

    (tmp_path / "lh.gii").write_text("left")
    (tmp_path / "rh.gii").write_text("right")
    paths = f"brain_maps.surfaces=[{tmp_path}/lh.gii,{tmp_path}/rh.gii]"
    found = [fingerprint(), fingerprint("brain_maps.surfaces=fsaverage5"), fingerprint(paths)]
    (tmp_path / "rh.gii").write_text("other")
    found.append(fingerprint(paths))
    assert len(set(found)) == 4
    shutil.move(tmp_path / "lh.gii", tmp_path / "moved.gii")
    moved = f"brain_maps.surfaces=[{tmp_path}/moved.gii,{tmp_path}/rh.gii]"
    assert fingerprint(moved) == found[-1]


@pytest.fixture
def own_data(tiny_nsd: Path, tmp_path: Path) -> Path:
    """A copy of the tiny world as data of the user's."""
    return Path(shutil.copytree(tiny_nsd, tmp_path / "nsd"))


@pytest.mark.usefixtures("_nilearn")
def test_data_without_a_mask_are_refused_only_where_maps_are_asked_for(cli: CommandLine, own_data: Path) -> None:
    (own_data / "masks" / "subj01.nii.gz").unlink()
    given = f"paths.nsd={own_data}"
    cli.refuses(*MAPS, given, says=("masks/subj01.nii.gz, the positions of the voxels", "docs/brain_maps.md"))
    code, out, err = cli(*COMMAND, given, "plan=true")
    assert (code, err) == (0, "")
    assert "masks" not in out


@pytest.fixture
def _nilearn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nilearn count as installed: what is tested comes before it is imported."""
    monkeypatch.setattr("mindeye_pl.steps.inputs.brain_positions.find_spec", lambda name: True)


@pytest.mark.usefixtures("_nilearn")
@pytest.mark.parametrize("voxels", [39, 41])
def test_a_mask_of_other_voxels_is_refused_before_a_training(cli: CommandLine, own_data: Path, voxels: int) -> None:
    path = own_data / "masks" / "subj01.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((voxels, 1, 1), np.int8), np.eye(4)), path)
    cli.refuses(*MAPS, f"paths.nsd={own_data}", says=("does not fit the betas", f"{voxels} voxels", "expected: 40"))


def test_without_nilearn_the_command_is_named(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mindeye_pl.steps.inputs.brain_positions.find_spec", lambda name: None)
    cli.refuses(*MAPS, says=("lacks nilearn (pip install 'mindeye_pl[brain]')",))


def test_a_surface_that_is_none_is_refused(cli: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("nilearn", reason="needs pip install -e .[brain]")
    (tmp_path / "lh.gii").write_text("no surface")
    surfaces = f"brain_maps.surfaces=[{tmp_path}/lh.gii,{tmp_path}/rh.gii]"
    cli.refuses(*MAPS, surfaces, says=("lh.gii cannot be read as a surface",))


@pytest.mark.parametrize("surfaces", ["fsaverage6", "[lh.gii]"])
def test_other_values_of_surfaces_are_refused(cli: CommandLine, surfaces: str) -> None:
    cli.refuses(*MAPS, f"brain_maps.surfaces={surfaces}", says=("brain_maps.surfaces", "fsaverage5"))
