"""Trained priors on disk."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avdiff.errors import UserError
from avdiff.priors.presets import tiny_noise
from avdiff.priors.store import export_checkpoint, load_prior, save_prior


def test_a_prior_comes_back_in_half_precision(tmp_path: Path) -> None:
    prior = tiny_noise().eval()
    save_prior(tmp_path, "tiny_noise", prior.state_dict())
    x = 0.05 * torch.randn(1, 6400)
    with torch.no_grad():
        there, back = (p.denoise(x, torch.tensor([0.05])) for p in (prior, load_prior(str(tmp_path))))
    assert torch.allclose(there, back, atol=1e-4)


def test_weights_of_another_shape_are_refused_in_one_sentence(tmp_path: Path) -> None:
    state = tiny_noise().state_dict()
    state["network.stem.weight"] = state["network.stem.weight"][:, :5]
    save_prior(tmp_path, "tiny_noise", state)
    with pytest.raises(
        UserError, match=r"'network.stem.weight', which is 8 x 5 x 3 x 3 in the file and 8 x 128 x 3 x 3 in"
    ):
        load_prior(str(tmp_path))


def test_a_checkpoint_of_another_width_is_refused_when_it_is_exported(tmp_path: Path) -> None:
    state = {f"prior.{name}": tensor for name, tensor in tiny_noise().state_dict().items()}
    state["prior.network.stem.weight"] = state["prior.network.stem.weight"][:4]
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"does not fit preset tiny_noise: first difference at 'network.stem.weight'"):
        export_checkpoint(tmp_path / "last.ckpt", "tiny_noise", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint\n", b"PK\x03\x04torn"])
def test_files_that_are_something_else_are_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(UserError, match="is no checkpoint that torch can read"):
        export_checkpoint(tmp_path / "last.ckpt", "tiny_noise", tmp_path / "out")
    for saved, sentence in (([1], "holds a list and no checkpoint"), ({"epoch": 1}, "has no state_dict")):
        torch.save(saved, tmp_path / "last.ckpt")
        with pytest.raises(UserError, match=sentence):
            export_checkpoint(tmp_path / "last.ckpt", "tiny_noise", tmp_path / "out")
    save_prior(tmp_path, "tiny_noise", tiny_noise().state_dict())
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model.safetensors is damaged or no file of weights"):
        load_prior(str(tmp_path))
    (tmp_path / "config.yaml").write_text("trainer: {max_steps: 1}")
    with pytest.raises(UserError, match=r"config.yaml names no preset"):
        load_prior(str(tmp_path))
    (tmp_path / "config.yaml").write_text("[")
    with pytest.raises(UserError, match=r"config.yaml is no YAML file"):
        load_prior(str(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_weights_that_are_not_finite_are_not_exported(value: float, tmp_path: Path) -> None:
    """Nor are those that half precision cannot hold; what was exported before stays."""
    prior, folder = tiny_noise(), tmp_path / "exported"
    save_prior(folder, "tiny_noise", prior.state_dict())
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        prior.network.output.weight.fill_(value)
    state = {f"prior.{name}": tensor for name, tensor in prior.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="not finite"):
        export_checkpoint(tmp_path / "last.ckpt", "tiny_noise", folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_weights_that_are_not_finite_are_not_read(tmp_path: Path) -> None:
    save_prior(tmp_path, "tiny_noise", tiny_noise().state_dict())
    state = load_file(tmp_path / "model.safetensors")
    state["network.output.weight"][:] = float("inf")
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"not finite .*network\.output\.weight"):
        load_prior(str(tmp_path))
