"""How far trainer and sampler are apart on every token of a rollout: for the records, and for the eye."""

from collections.abc import Callable

import numpy as np
from jax.sharding import Mesh

from phi4r.hosts import to_host
from phi4r.model.inputs import TokenBatch
from phi4r.rl.trajectories import PackedShape, pack_trajectories
from phi4r.sampling import Samples
from phi4r.sharding import zigzag_order
from phi4r.train.setup import rows_to_mesh
from phi4r.typing import Array, Params


def logprob_gaps(
    samples: Samples,
    policy: Params,
    score_fn: Callable[[Params, TokenBatch], Array],
    shape: PackedShape,
    mesh: Mesh,
    *,
    num_parts: int,
) -> list[np.ndarray]:
    """Scores a rollout once more by the policy that sampled it; all hosts have to call it.

    Args:
      samples: of the rollout.
      policy: in the layout of training, before any update on this rollout.
      score_fn: of the policy (`phi4r.rl.scoring.make_score_fn`).
      shape: of packed rows.
      mesh: of training.
      num_parts: parts of the rollout that find room in `shape`, one at a time.

    Returns:
      [n] float32 for each response of n tokens: log p of the trainer minus log p of the sampler.
    """
    gaps: list[np.ndarray] = []
    for responses in np.array_split(np.arange(len(samples.tokens)), num_parts):
        numbers = np.zeros(len(samples.tokens), np.float32)
        numbers[responses] = np.arange(1, len(responses) + 1)  # in place of advantages: whose token is where
        packed = pack_trajectories(samples, numbers, shape, responses)
        scored = to_host(score_fn(policy, rows_to_mesh(packed.batch, mesh)))
        scored = scored[:, np.argsort(zigzag_order(shape.row_length, mesh.shape["context"]))]
        drawn = packed.batch.loss_mask > 0
        owners = packed.advantages[drawn]
        gap = (scored - packed.sampler_logprobs)[drawn][np.argsort(owners, kind="stable")]
        gaps += np.split(gap, np.cumsum(np.bincount(owners.astype(int), minlength=len(responses) + 1)[1:])[:-1])
    return gaps
