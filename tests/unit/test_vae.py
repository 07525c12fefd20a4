"""VAEs of speech: what sees the lips, what is learned from what, and weights on disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from avdiff.em.mcem import MCEM
from avdiff.em.peem import PointEstimate
from avdiff.em.vae import EnrolledVAEMixture, VAEMixture, talkers
from avdiff.errors import UserError
from avdiff.lit.vae import ConditionalObjective, Frames, MinObjective, VAEModel, distortion
from avdiff.nets.vae import LipProjection
from avdiff.nets.visual import CachedFeatures
from avdiff.priors.vae import (
    PRESETS,
    ConditionalVAE,
    MinVAE,
    audio_vae,
    conditional_vae,
    load_lips,
    load_vae,
    min_vae,
    mixed_vae,
    save_vae,
)
from avdiff.types import Observation

LIPS = CachedFeatures(6)  # lips are six numbers a picture


def frames_of(seed: int = 0, pictures: int = 4) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    clean, target, mixture = torch.rand(3, 2, 2 * pictures, 513, generator=generator)
    features = torch.randn(2, pictures, 6, generator=generator)
    return Frames(clean, target, mixture, features, torch.ones(2, pictures, dtype=torch.bool))


def test_pictures_are_spread_over_frames_and_unseen_ones_are_null() -> None:
    project = LipProjection(6, 3)
    torch.nn.init.ones_(project.unseen)
    features, seen = torch.randn(1, 2, 6), torch.tensor([[True, False]])
    v = project(features, seen, 4)
    assert torch.equal(v[0, 0], v[0, 1])
    assert torch.equal(v[0, 0], project.project(features)[0, 0].relu())
    assert torch.equal(v[0, 2:], torch.ones(2, 3))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_lips_reach_what_they_should(preset) -> None:
    """Posterior, prior and decoder of every preset: whether other lips change them."""
    torch.manual_seed(0)
    vae = preset(LIPS)
    frames = frames_of()
    one, other = (vae.see(features, frames.seen, 8) for features in (frames.features, frames.features + 1))
    z = torch.randn(2, 8, 32)
    posterior = [vae.infer(frames.clean, v).mean for v in (one, other)]
    prior = [vae.latent_prior(v, frames.clean).mean for v in (one, other)]
    decoder = [vae.decoder(z, vae.decoder.offset(v)) for v in (one, other)]
    moved = tuple(not torch.equal(*pair) for pair in (posterior, prior, decoder))
    expected = {audio_vae: (False,) * 3, min_vae: (True, False, False)}
    assert moved == expected.get(preset, (True,) * 3)


def test_distortion_is_least_at_the_power_itself() -> None:
    power = torch.rand(3, 513) + 0.1
    least = distortion(power, power.log())
    assert (distortion(power, power.log() + 0.3) > least).all()
    assert (distortion(power, power.log() - 0.3) > least).all()
    assert torch.allclose(least, power.log().sum(-1) + 513, rtol=1e-3)


def test_the_posterior_of_mixed_speech_hears_the_mixture_and_says_the_talker() -> None:
    torch.manual_seed(0)
    frames = frames_of()
    clean, mixed = (
        ConditionalObjective(vae, mixed=is_mixed)
        for vae, is_mixed in ((conditional_vae(LIPS), False), (mixed_vae(LIPS), True))
    )

    def loss(objective: ConditionalObjective, given: Frames) -> torch.Tensor:
        torch.manual_seed(1)
        v = objective.vae.see(given.features, given.seen, 8)
        return objective.eval().losses(given, v, 0.0)

    other_mixture = Frames(frames.clean, frames.target, frames.mixture + 1, frames.features, frames.seen)
    other_clean = Frames(frames.clean + 1, frames.target, frames.mixture, frames.features, frames.seen)
    other_target = Frames(frames.clean, frames.target + 1, frames.mixture, frames.features, frames.seen)
    for objective, moves in ((clean, (False, True, False)), (mixed, (True, False, True))):
        changed = [
            not torch.equal(loss(objective, frames), loss(objective, given))
            for given in (other_mixture, other_clean, other_target)
        ]
        assert tuple(changed) == moves


def test_blind_batches_leave_what_acts_on_sound_as_it_is() -> None:
    torch.manual_seed(0)
    vae = conditional_vae(LIPS)
    assert isinstance(vae, ConditionalVAE)
    objective = ConditionalObjective(vae, blind=1.0)
    frames = frames_of()
    objective.before_batch()
    objective.losses(frames, vae.see(frames.features, frames.seen, 8), 0.0).mean().backward()
    assert all(parameter.grad is not None for parameter in vae.parameters())  # or other processes would wait for ever
    objective.before_step()
    assert vae.posterior.audio.weight.grad is None
    assert vae.decoder.latent.weight.grad is None
    assert vae.prior is not None
    for lips in (vae.posterior.lips, vae.decoder.lips, vae.prior.net[0], vae.project.project):  # type: ignore[union-attr]
        assert lips.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert all(parameter.requires_grad for parameter in vae.parameters())


def test_alpha_follows_the_mean_responsibility() -> None:
    torch.manual_seed(0)
    vae = min_vae(LIPS)
    assert isinstance(vae, MinVAE)
    objective = MinObjective(vae, alone=0.5, alpha_rate=0.25)
    frames = frames_of()
    v = vae.see(frames.features, frames.seen, 8)
    objective.losses(frames, v, 0.4)
    assert float(vae.alpha) == 0.5
    with torch.no_grad():
        vae.seen.net[2].bias[:32] += 30  # what is seen is far off: all is heard
    objective.losses(frames, v, 0.6)
    assert float(vae.alpha) == pytest.approx(0.5 + 0.25 * (0.99 - 0.5))
    assert vae.state_dict()["alpha"] == vae.alpha  # with which a stopped training goes on
    fixed = float(vae.alpha)
    objective.eval().losses(frames, v, 0.6)
    MinObjective(vae, alpha_rate=0.0).losses(frames, v, 0.6)
    assert float(vae.alpha) == fixed
    for _ in range(100):
        objective.train().losses(frames, v, 0.6)
    assert float(vae.alpha) == pytest.approx(0.99)
    (inside,) = VAEModel(presets=("min_vae",), alpha_rate=0.5).objectives.values()
    assert inside.alpha_rate == 0.5


def batch(talkers: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sources = 0.1 * torch.randn(3, talkers + 1, 6400, generator=generator).cumsum(-1).sin()
    return {
        "mixture": sources.sum(1),
        "sources": sources,
        "visual": torch.randint(0, 256, (3, talkers, 10, 96, 96), dtype=torch.uint8, generator=generator),
        "seen": torch.ones(3, talkers, 10, dtype=torch.bool),
    }


def test_spectra_of_a_batch_are_at_their_levels() -> None:
    model = VAEModel(presets=("audio_vae",), gain_db=(6.0, 6.0))
    given = batch()
    frames = model.frames(given, given["visual"])
    assert frames.clean.shape == (6, 21, 513)
    assert frames.features.shape[:2] == (6, 10)
    assert float(frames.mixture.mean()) == pytest.approx(1, rel=0.1)
    assert float(frames.clean.mean()) == pytest.approx(10**0.6, rel=0.1)
    share = given["sources"][1, 1].square().mean() / given["mixture"][1].square().mean()
    assert float(frames.target[3].mean()) == pytest.approx(float(share), rel=0.1)
    assert torch.equal(frames.mixture[2], frames.mixture[3])


def test_all_vaes_learn_side_by_side_and_the_lip_encoder_stays() -> None:
    torch.manual_seed(0)
    model = VAEModel(learning_rate=3e-3)
    before = model.encoder.state_dict()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        each = model._losses(batch())
        torch.stack(list(each.values())).sum().backward()
        optimizer.step()
        losses.append({name: loss.item() for name, loss in each.items()})
    assert set(losses[0]) == set(PRESETS)
    assert all(losses[-1][name] < losses[0][name] - 10 for name in PRESETS)
    after = load_lips("speech").state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_same_batches_are_blind_in_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = VAEModel(presets=("conditional_vae", "mixed_vae"))
    model.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    given, blind, drawn = batch(1), [], []
    for rank in (0, 1):
        monkeypatch.setattr(VAEModel, "global_rank", rank)
        drawn.append([])
        for index in range(20):
            drawn[-1].append(float(model.training_step(given, index)))
            blind += [each._blinded for each in model.objectives.values()]
    assert blind[:40] == blind[40:]
    assert 0.05 < sum(blind) / 80 < 0.4
    assert drawn[0] != drawn[1]


def test_going_on_with_more_steps_is_going_on_with_their_cosine() -> None:
    def schedule(steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        model = VAEModel(presets=("audio_vae",), learning_rate=2.0)
        model.__dict__["_trainer"] = SimpleNamespace(estimated_stepping_batches=steps)
        found = model.configure_optimizers()
        return found["optimizer"], found["lr_scheduler"]["scheduler"]

    def rates(
        optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler, steps: int
    ) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            found.append(optimizer.param_groups[0]["lr"])
        return found

    short, long = schedule(4), schedule(8)
    assert rates(*short, 4) == pytest.approx([1 + 0.5**0.5, 1, 1 - 0.5**0.5, 0])
    whole = rates(*long, 8)
    longer = schedule(8)
    for new, old in zip(longer, short, strict=True):
        new.load_state_dict(old.state_dict())
    assert rates(*longer, 4) == pytest.approx(whole[4:])


@pytest.mark.parametrize("name", PRESETS)
def test_a_vae_comes_back_from_disk_without_the_lip_encoder_in_its_file(name: str, tmp_path: Path) -> None:
    vae = PRESETS[name](load_lips("speech"))
    save_vae(tmp_path, name, "speech", vae)
    assert not any(key.startswith("lips.") for key in load_file(tmp_path / "model.safetensors"))
    again = load_vae(str(tmp_path))
    for key, value in vae.state_dict().items():
        assert torch.allclose(again.state_dict()[key], value, atol=1e-3)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.yaml does not exist; give audio_vae"):
        load_vae(str(tmp_path))
    save_vae(tmp_path, "audio_vae", "speech", audio_vae(LIPS))
    state = load_file(tmp_path / "model.safetensors")
    save_file({**state, "decoder.output.bias": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"does not fit preset audio_vae: first difference at 'decoder\.output\.bias'"):
        load_vae(str(tmp_path))
    (tmp_path / "config.yaml").write_text("preset: other\n")
    with pytest.raises(UserError, match="unknown preset 'other'"):
        load_vae(str(tmp_path))
    with pytest.raises(UserError, match="no VAE 'other'"):
        VAEModel(presets=("other",))
    with pytest.raises(UserError, match="has no lip encoder"):
        load_lips("noise")


def test_every_enrolled_voice_is_decoded_by_its_own_vae(tmp_path: Path) -> None:
    lips = load_lips("speech")
    for seed, name in enumerate(("anna", "bert")):
        torch.manual_seed(seed)
        save_vae(tmp_path / name / "conditional_vae", "conditional_vae", "speech", conditional_vae(lips))
    (tmp_path / "talkers.json").write_text('{"x": ["anna", "bert"], "y": ["bert", "anna"]}')
    model = EnrolledVAEMixture(tmp_path, MCEM(PointEstimate(1)), levels={2: -5.0})
    generator = torch.Generator().manual_seed(0)
    visual = torch.randint(0, 256, (2, 1, 4, 96, 96), dtype=torch.uint8, generator=generator)
    seen = Observation(("x", "y"), torch.zeros(2, 2560), visual, None, ("speaker", "offscreen", "noise"))
    power = torch.rand(2, 8, 513, generator=generator)
    found = model._talkers(power, seen, 2)
    z = torch.randn(3, 2, 2, 8, 32, generator=generator)
    for voice, places in {"anna": [(0, 0), (1, 1)], "bert": [(0, 1), (1, 0)]}.items():
        own = talkers(load_vae(str(tmp_path / voice / "conditional_vae")), power, seen, 2, 10**-0.5)
        for row, k in places:
            assert torch.allclose(found.start[row, k], own.start[row, k], atol=1e-5)
            assert torch.allclose(found.log_variance(z)[:, row, k], own.log_variance(z)[:, row, k], atol=1e-5)
            assert torch.allclose(found.prior.mean[row, k], own.prior.mean[row, k], atol=1e-5)
    assert found.gain.shape == (2, 2, 8)
    assert torch.allclose(found.gain, torch.tensor(10**-0.5))


def test_talkers_who_are_not_seen_get_the_null_lips_and_levels_go_by_their_number() -> None:
    torch.manual_seed(0)
    vae = conditional_vae(LIPS).requires_grad_(False)
    torch.nn.init.ones_(vae.project.unseen)  # type: ignore[union-attr]
    visual = torch.randn(1, 1, 4, 6)
    seen = Observation(("a",), torch.zeros(1, 2560), visual, None, ("speaker", "offscreen", "noise"))
    power = torch.rand(1, 8, 513)
    found = talkers(vae, power, seen, 2, 0.5)
    assert torch.allclose(found.start[0, 1], vae.infer(power[0], torch.ones(8, 128)).mean, atol=1e-6)
    lips = vae.see(visual[0], torch.ones(1, 4, dtype=torch.bool), 8)
    assert torch.allclose(found.start[0, 0], vae.infer(power, lips).mean[0], atol=1e-6)
    assert (found.gain == 0.5).all()
    model = VAEMixture(vae, MCEM(PointEstimate(1)), levels={1: -3.0, 2: -10.0})
    assert [model.level(count) for count in (1, 2, 5)] == pytest.approx([10**-0.3, 0.1, 0.1])
    assert VAEMixture(vae, MCEM(PointEstimate(1))).level(2) == 1
