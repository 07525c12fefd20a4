"""The classifier that scenes are judged by: networks of classes and of superclasses, fused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from avdiff.audio.io import resample
from avdiff.audio.scenes import Classes
from avdiff.errors import UserError
from avdiff.metrics.asr import Recogniser
from avdiff.nets.scene import SceneFCNN, SceneFsFCNN, SceneNet, SceneResNet
from avdiff.nets.state import read_checkpoint
from avdiff.scene.features import SCENE_RATE, log_mel, with_differences
from avdiff.scene.fusion import fuse
from avdiff.types import SAMPLE_RATE

NETWORKS = {kind.__name__: kind for kind in (SceneResNet, SceneFCNN, SceneFsFCNN)}


class SceneEnsemble(Recogniser):
    """Says which scene a clip is: in place of words, the name of the likeliest.

    Args:
        fine: networks of all classes.
        coarse: networks of the superclasses.
        classes: names and superclasses.
    """

    def __init__(self, fine: Sequence[SceneNet], coarse: Sequence[SceneNet], classes: Classes) -> None:
        self.fine, self.coarse = nn.ModuleList(fine).eval(), nn.ModuleList(coarse).eval()
        self.classes = classes
        digest = hashlib.blake2b(repr(classes.fine).encode(), digest_size=4)
        for value in (*self.fine.state_dict().values(), *self.coarse.state_dict().values()):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        self.model = f"two-stage scenes {digest.hexdigest()}"

    def transcribe(self, clips: Sequence[Tensor]) -> list[str]:
        """Clips (T,) at 16 kHz -> the name of each one's scene; "" of what is not finite."""
        return [self.name(clip, SAMPLE_RATE) if clip.isfinite().all() else "" for clip in clips]

    @torch.inference_mode()
    def probabilities(self, clip: Tensor, sample_rate: int) -> Tensor:
        """(T,) at any rate and level -> (C,) in the order of the classes."""
        features = with_differences(log_mel(resample(clip.float(), sample_rate, SCENE_RATE)))[None]
        sums = [
            torch.stack([network(features).softmax(-1) for network in networks]).sum(0)
            for networks in (self.fine, self.coarse)
        ]
        return fuse(sums[0], sums[1], self.classes.parents)[0]

    def name(self, clip: Tensor, sample_rate: int) -> str:
        """The likeliest scene of a clip."""
        return self.classes.fine[int(self.probabilities(clip, sample_rate).argmax())]


def load_ensemble(folder: Path, classes: Classes) -> SceneEnsemble:
    """The networks that `make train-scene` left: `<folder>/*/checkpoints/last.ckpt`.

    Raises:
        UserError: there are none of classes or none of superclasses, or one was trained on others.
    """
    fine, coarse = list[SceneNet](), list[SceneNet]()
    for file in sorted(folder.glob("*/checkpoints/last.ckpt")):
        saved = read_checkpoint(file, "give a folder that make train-scene left")
        if "scene" not in saved:
            raise UserError(f"{file} is no checkpoint of a scene classifier; give a folder that make train-scene left")
        told = saved["scene"]
        wanted = list(classes.coarse if told["superclasses"] else classes.fine)
        if told.get("names") != wanted:
            raise UserError(
                f"{file} tells {', '.join(told.get('names', ['other scenes']))} apart, not {', '.join(wanted)}; "
                "give the classifier of these scenes"
            )
        network = NETWORKS[told["network"]](told["classes"], told["width"])
        prefix = "network."
        weights = {k.removeprefix(prefix): v for k, v in saved["state_dict"].items() if k.startswith(prefix)}
        network.load_state_dict(weights)
        (coarse if told["superclasses"] else fine).append(network)
    if not fine or not coarse:
        raise UserError(
            f"{folder} holds {len(fine)} networks of classes and {len(coarse)} of superclasses; make train-scene trains both"
        )
    return SceneEnsemble(fine, coarse, classes)
