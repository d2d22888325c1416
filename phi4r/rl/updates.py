"""The updates on one rollout: which responses each of them trains on, and one line of metrics for all of them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from phi4r.rl.grpo import GrpoSettings
from phi4r.sampling import FINISH_STOP, Samples
from phi4r.train.step import Metrics

BEFORE_UPDATES = ("logprob_gap", "logprob_gap_max")  # of the policy that sampled; later updates compare another one


def split_responses(samples: Samples, settings: GrpoSettings, *, seed: int, step: int) -> list[np.ndarray]:
    """Returns the responses of each update on a rollout, as rows of `samples`.

    Groups stay together, so that the advantages of an update sum to zero, and each trains once. Several updates take
    them in an order drawn from seed and step alone: a resumed run trains on what the uninterrupted one would have.
    Responses that were cut off are left out under `overlong="filter"`.

    Args:
      samples: rows i * G .. i * G + G - 1 answer problem i.
      settings: group size, updates, and what becomes of responses that were cut off.
      seed: of the run.
      step: of the rollout.
    """
    finish_reason = np.asarray(samples.finish_reason)
    groups = np.arange(len(finish_reason)).reshape(-1, settings.group_size)
    if settings.updates_per_rollout > 1:
        groups = groups[np.random.default_rng([seed, step]).permutation(len(groups))]
    parts = [part.reshape(-1) for part in np.array_split(groups, settings.updates_per_rollout)]
    if settings.overlong == "train":
        return parts
    return [part[finish_reason[part] == FINISH_STOP] for part in parts]


@jax.jit
def update_metrics(updates: Sequence[Metrics]) -> Metrics:
    """Returns the metrics of a step from those of its updates, in their order.

    What compares sampler and trainer is that of the first update, whose policy is the one that sampled. `finite` is
    the least and maxima the largest; all else is the mean. `ess` is new: the effective sample size over the number of
    tokens, (sum w)^2 / (n sum w^2), with w = policy/sampler of each token; 1 where the two agree.
    """
    metrics = {}
    for name in updates[0]:
        values = jnp.stack([update[name] for update in updates])
        if name in BEFORE_UPDATES:
            metrics[name] = values[0]
        elif name == "finite":
            metrics[name] = jnp.min(values)
        else:
            metrics[name] = jnp.max(values) if name.endswith("_max") else jnp.mean(values)
    weight, square = (jnp.stack([u[name] for u in updates]) for name in ("importance", "importance_squared"))
    del metrics["importance"], metrics["importance_squared"]
    return {**metrics, "ess": jnp.mean(weight**2 / square)}
