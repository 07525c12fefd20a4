"""The public NCSN++M: its size, its function, and its checkpoints."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import pytest
import torch

from avdiff.errors import UserError
from avdiff.nets.imports import load_buddy
from avdiff.nets.ncsnpp import NCSNpp
from tests.golden import assert_golden, golden_checkpoint, golden_input, golden_output


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    return golden_checkpoint("ncsnpp_m_keys.tsv")


def test_size() -> None:
    with torch.device("meta"):
        network = NCSNpp()
    assert sum(p.numel() for p in network.parameters()) == 27_736_590
    assert len(network.state_dict()) == 271


@pytest.mark.parametrize("c_noise", ["-1.5", "0.3"])
def test_reproduces_the_published_network(published: dict[str, torch.Tensor], c_noise: str) -> None:
    network = load_buddy(published)
    with torch.inference_mode():
        output = network(golden_input((1, 2, 256, 32)), torch.tensor([float(c_noise)]))
    expected = golden_output("ncsnpp_m.json")["outputs"][c_noise]
    # With these weights float32 rounding is amplified: one thread agrees to 3e-5, two to 1e-4, float64 to 3e-4.
    assert_golden(output[:, 0], expected["real"], rounding=5e-4)
    assert_golden(output[:, 1], expected["imag"], rounding=5e-4)


def test_reads_a_training_checkpoint_without_running_it(published: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """The published file also pickles its options as objects of a package that need not be here, nor be trusted."""
    module = types.ModuleType("options_package")
    exec("class Options(dict):\n    def __setstate__(self, state): self.state = state", module.__dict__)
    sys.modules["options_package"] = module
    options = module.Options(lr=1e-4)
    options.state = {"nested": module.Options()}
    average = {name: v + 1 if v.is_floating_point() else v for name, v in published.items()}
    torch.save({"it": 7, "network": published, "optimizer": {}, "ema": average, "args": options}, tmp_path / "b.pt")
    del sys.modules["options_package"]
    torch.testing.assert_close(load_buddy(tmp_path / "b.pt").stem.bias, average["all_modules.3.bias"])


def test_takes_the_raw_weights_where_the_average_is_not_whole(published: dict[str, torch.Tensor]) -> None:
    network = load_buddy({"network": published, "ema": {"decay": 0.999}})
    torch.testing.assert_close(network.stem.bias, published["all_modules.3.bias"])


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"network": {}, "args": Trap()}, tmp_path / "trap.pt", pickle_module=pickle)
    with pytest.raises(UserError):
        load_buddy(tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


def test_refuses_another_layout(published: dict[str, torch.Tensor], tmp_path: Path) -> None:
    four_inputs = {**published, "all_modules.3.weight": torch.zeros(128, 4, 3, 3)}
    with pytest.raises(UserError, match=r"BUDDy's NCSN\+\+M: it has in another shape 1 tensors \(stem.weight\)"):
        load_buddy(four_inputs)
    with pytest.raises(UserError, match="lacks 271 tensors"):
        load_buddy({"all_modules.99.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="no checkpoint at"):
        load_buddy(tmp_path / "none.pt")
