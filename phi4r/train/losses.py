"""The loss of supervised fine-tuning."""

from phi4r.model.inputs import TokenBatch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer
from phi4r.train.step import LossFn, LossSum, Mean
from phi4r.typing import Params


def make_sft_loss(model: Transformer, *, chunk_size: int) -> LossFn:
    """Returns the loss of SFT: the mean of -log p(token) over the trained tokens of the global batch.

    Every trained token counts alike, whichever row, device or micro-batch it is in (not in the paper, which says only
    that responses are trained). The metrics are `nll` and `entropy`, both in nats a trained token.

    Args:
      model: the decoder.
      chunk_size: positions of a row for which logits exist at a time.
    """

    def sft_loss(params: Params, batch: TokenBatch) -> LossSum:
        logprobs, entropy = token_logprobs(model, params, batch, chunk_size=chunk_size)
        nll = -(logprobs * batch.loss_mask).sum()
        weight = batch.loss_mask.sum()
        metrics = {"nll": Mean(nll, weight), "entropy": Mean((entropy * batch.loss_mask).sum(), weight)}
        return LossSum(total=nll, weight=weight, metrics=metrics)

    return sft_loss
