"""Processes that SLURM's srun starts."""

from __future__ import annotations

import os

from lightning.pytorch.plugins.environments import SLURMEnvironment

from avdiff.errors import UserError


class StartedBySrun(SLURMEnvironment):
    """Ranks and addresses as srun tells them. `StopOnSignal` puts the job back in the queue, and says why not Lightning.

    Raises:
        UserError: when a rank is asked for and srun told none.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        return _told("SLURM_NTASKS")

    def global_rank(self) -> int:
        return _told("SLURM_PROCID")

    def local_rank(self) -> int:
        return _told("SLURM_LOCALID")

    def node_rank(self) -> int:
        return _told("SLURM_NODEID")


def _told(name: str) -> int:
    if name not in os.environ:
        raise UserError(
            f"this training is for processes that srun starts and there is no {name}; submit experiments/cluster/fit.sbatch, "
            "or train on this machine: CLUSTER=gpu8, gpu1 or local"
        )
    return int(os.environ[name])
