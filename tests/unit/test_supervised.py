"""What supervised systems share: the mask network, lip encoders, weights on disk, and that the small ones can learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio

from avdiff.errors import UserError
from avdiff.lit.flowavse import FlowAVSEModel
from avdiff.lit.ravss import RAVSSModel
from avdiff.lit.supervised import SupervisedModel
from avdiff.lit.visual_mask import VisualMaskModel
from avdiff.priors.store import save_prior
from avdiff.rng import ClipNoise
from avdiff.separators.base import Separator
from avdiff.separators.flowavse import FlowAVSESeparator
from avdiff.separators.presets import (
    small_flowavse,
    small_ravss,
    small_visual_mask,
    tiny_flowavse,
    tiny_ravss,
    tiny_visual_mask,
)
from avdiff.separators.store import export_system, load_flowavse, load_ravss
from avdiff.separators.visual_mask import VisualMaskSeparator
from avdiff.types import Observation
from tests.supervised import batch, observation, randomise

STEPS = 600  # of the training on one mixture
MODELS = {
    "flowavse": lambda: FlowAVSEModel(tiny_flowavse(), learning_rate=1e-3),
    "ravss": lambda: RAVSSModel(tiny_ravss(), learning_rate=1e-3),
    "visual_mask": lambda: VisualMaskModel(tiny_visual_mask(), learning_rate=1e-3),
}
EXTRACTORS = {
    "flowavse": lambda: FlowAVSESeparator({1: randomise(tiny_flowavse())}),
    "visual_mask": lambda: VisualMaskSeparator(randomise(tiny_visual_mask())),
}


def separate(separator: Separator, seen: Observation) -> torch.Tensor:
    return separator.separate(seen, rng=ClipNoise(0, seen.key)).sources


@pytest.mark.parametrize("name", EXTRACTORS)
def test_neither_order_nor_batch_nor_padding_is_a_matter(name: str) -> None:
    separator, seen = EXTRACTORS[name](), observation(2, 5000)
    whole = separate(separator, seen)
    peak = float(whole.abs().max())  # of networks with random weights: thousands, for one of them
    swapped = separate(separator, replace(seen, visual=seen.visual.flip(1)))
    torch.testing.assert_close(swapped[:, [1, 0, 2]], whole, rtol=0, atol=1e-6 * peak)
    assert not torch.allclose(whole[:, 0], whole[:, 1], atol=1e-4 * peak)
    torch.testing.assert_close(separate(separator, seen.select([1])), whole[1:], rtol=0, atol=1e-6 * peak)


@pytest.mark.parametrize(("name", "samples"), [("flowavse", 640), ("visual_mask", 100)])
def test_silence_in_place_of_padding_changes_nothing(name: str, samples: int) -> None:
    """FlowAVSE pads 40 frames of its STFT to 48, and the video with them; the mask network to whole video frames."""
    separator, seen = EXTRACTORS[name](), observation(1, 5000)
    frames = -(-(5000 + samples) // 640)
    longer = replace(
        seen,
        mixture=torch.nn.functional.pad(seen.mixture, (0, samples)),
        visual=torch.cat([seen.visual, seen.visual[:, :, -1:]], dim=2)[:, :, :frames],
        visual_mask=torch.tensor([True] * 8 + [False])[:frames].expand(2, 1, frames),
    )
    found = separate(separator, longer)[..., :5000]
    torch.testing.assert_close(found, separate(separator, seen), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_training_and_validation_run(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    data = batch(2)
    data["seen"][1, 1] = False
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader([data, data], batch_size=None), DataLoader([batch(2)], batch_size=None))
    assert trainer.callback_metrics["val/si_sdr_gain_talkers2"].isfinite()
    after = model.network.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved
    assert not any(key.startswith("encoder.") for key in moved)  # frozen


def test_a_lip_encoder_is_taken_from_a_prior(tmp_path: Path) -> None:
    source, model = tiny_ravss(), tiny_ravss()
    state = {f"encoder.{name}": value for name, value in source.encoder.state_dict().items()}
    save_file({**state, "network.stem": torch.zeros(1)}, tmp_path / "model.safetensors")
    RAVSSModel(model, lips=str(tmp_path))
    for name, value in source.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value)
    with pytest.raises(UserError, match="does not hold the lip encoder of this preset"):
        RAVSSModel(small_ravss(), lips=str(tmp_path))
    with pytest.raises(UserError, match="there is no lip encoder"):
        RAVSSModel(model, lips=str(tmp_path / "nowhere"))


def test_the_shipped_lip_encoder_fits_the_small_presets() -> None:
    for model in (small_flowavse(), small_ravss(), small_visual_mask()):
        SupervisedModel(model, 1e-3, lips="speech")
    for model in (small_flowavse(freeze_lips=False), small_ravss(freeze_lips=False)):
        SupervisedModel(model, 1e-3, lips="speech")
        assert all(p.requires_grad for p in model.encoder.parameters()), "their own encoders are trained"


def test_export_and_load(tmp_path: Path) -> None:
    network = randomise(tiny_ravss())
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    export_system(tmp_path / "last.ckpt", "tiny_ravss", tmp_path / "mine")
    loaded = load_ravss(str(tmp_path / "mine"))
    seen = observation(2, 3000)
    torch.testing.assert_close(loaded(seen.mixture, seen.visual), network(seen.mixture, seen.visual), rtol=0, atol=0.02)
    with pytest.raises(UserError, match="holds RAVSS, but FlowAVSE was expected"):
        load_flowavse(str(tmp_path / "mine"))
    with pytest.raises(UserError, match="does not fit preset tiny_flowavse"):
        export_system(tmp_path / "last.ckpt", "tiny_flowavse", tmp_path / "other")
    with pytest.raises(UserError, match=r"nowhere/config\.yaml does not exist"):
        load_ravss("nowhere")
    save_prior(tmp_path / "prior", "tiny_noise", {})
    with pytest.raises(UserError, match="'tiny_noise', which is no system"):
        load_ravss(str(tmp_path / "prior"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flowavse", "ravss"])
def test_a_small_preset_learns_one_mixture_by_heart(name: str) -> None:
    """Two embedded talkers and noise, 0.96 s: above 20 dB SI-SDR."""
    from datamodules.synthetic.benchmark import EmbeddedBenchmark

    torch.manual_seed(0)
    mixture = EmbeddedBenchmark("val", ["speakers2"], clips=1)[0]
    first, frames = 25, 24
    sources = mixture.sources[None, :, 640 * first : 640 * (first + frames)]
    data = {
        "mixture": sources.sum(1),
        "sources": sources,
        "visual": mixture.mouth[None, :, first : first + frames],
        "seen": torch.ones(1, 2, frames, dtype=torch.bool),
    }
    models = {
        "flowavse": lambda: FlowAVSEModel(small_flowavse(), 2e-3, lips="speech"),
        "ravss": lambda: RAVSSModel(small_ravss(), 2e-3, lips="speech"),
    }
    model = models[name]().train()
    model.log_dict = lambda *_, **__: None
    optimizer = model.optimizer()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model.loss(data).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        found = model.estimate(data)
    assert scale_invariant_signal_distortion_ratio(found, sources[:, :2]).min() > 20
