"""The contract of sampler and trainer: before an update both give the same tokens the same log-probabilities.

Then the ratio is 1 and KL(policy || sampler) is 0 to rounding. Where they are not, another policy is trained than the
one that samples, and nothing else would show it.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.errors import UserError
from phi4r.train.guards import Alert, Guards, GuardSettings


class ContractGuards(Guards):
    """Guards that also stop a run whose sampler and trainer disagree, before anything of that step is saved."""

    def __init__(
        self,
        settings: GuardSettings,
        workdir: pathlib.Path,
        alerts: Sequence[Alert] = (),
        *,
        max_logprob_gap: float,
    ):
        """Remembers nothing yet.

        Args:
          settings: limits on steps that are not finite.
          workdir: of the run.
          alerts: healthy ranges; each is spoken of once a run.
          max_logprob_gap: see `GrpoSettings`.
        """
        super().__init__(settings, workdir, alerts)
        self._max_logprob_gap = max_logprob_gap

    def check(self, step: int, metrics: Mapping[str, float], batch: Any) -> dict[str, float]:
        """Looks at one step; see `Guards.check`.

        Of a rollout of an older policy (`policy_lag`) the gap is what the updates since have changed, as it should be,
        and neither the bound nor an alert looks at it.

        Raises:
          UserError: also if the gap before the first update on a rollout is beyond the bound.
        """
        if metrics.get("policy_lag"):
            return super().check(step, {k: v for k, v in metrics.items() if k != "logprob_gap"}, batch)
        counts = super().check(step, metrics, batch)
        gap, bound = metrics["logprob_gap"], self._max_logprob_gap
        if bound and gap > bound:
            raise UserError(
                f"step {step}: before its first update log-probabilities of sampler and trainer differ by {gap:.2g} "
                f"nats a token (at most {metrics['logprob_gap_max']:.2g}), more than grpo.max_logprob_gap={bound:g}: "
                "they do not compute the same policy. Check what the sampler does and training does not (int8 weights "
                "or cache, another RoPE scaling) and model.dtype; raise the bound if it is only rounding."
            )
        return counts
