"""The programs of supervised fine-tuning, by the makers that its loop calls (`phi4r.train.sft`)."""

import functools
from collections.abc import Callable

import jax

from phi4r.planning.program import Program, Programs, without
from phi4r.train.losses import make_sft_loss
from phi4r.train.setup import check_rows


class SftPrograms(Programs):
    """The step, and the held-out loss where there is one."""

    def programs(self) -> dict[str, Callable[[], Program]]:
        """Returns the makers by name."""
        settings = self.settings
        data, held_out = settings.data, settings.eval_data
        loss_fn = make_sft_loss(self.model, chunk_size=settings.logprob_chunk)
        parts = {"num_microbatches": settings.num_microbatches}
        check_rows(self.mesh, data.global_batch, data.row_length, where="data.global_batch", **parts)
        batch = self.batch(data.global_batch, data.row_length)
        programs = {"update": functools.partial(self.update, "SFT step", loss_fn, batch, {})}
        if held_out is not None:
            check_rows(self.mesh, held_out.global_batch, held_out.row_length, where="eval_data.global_batch")
            batch = self.batch(held_out.global_batch, held_out.row_length)
            programs["evaluate"] = functools.partial(
                self.forward,
                "held-out loss",
                jax.jit(loss_fn),
                self.policy,
                batch,
                memory={**without(self.held, "optimizer"), "batch": batch},
                resident={"optimizer": self.state.opt_state},
                calls=0,
            )
        return programs
