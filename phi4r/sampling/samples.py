"""What a sampler gives: rows of prompt and response with all that is known of every drawn token."""

import flax.struct

from phi4r.typing import Array

FINISH_STOP, FINISH_LENGTH = 0, 1


@flax.struct.dataclass
class Samples:
    """B rows of prompt and response, S = prompt length + response length; rows i*G..i*G+G-1 answer prompt i.

    Prompts are padded on the left, responses on the right. Arrays of numpy.
    """

    tokens: Array  # [B S] int32
    segment_ids: Array  # [B S] int32: 1 on prompt and response, 0 on the padding left and right of them
    response_mask: Array  # [B S] bool: the tokens that the model drew, its end token included
    logprobs: Array  # [B S] float32: of each drawn token given those before it; 0 elsewhere
    entropies: Array  # [B S] float32: of the distribution each was drawn from, in nats; 0 elsewhere
    finish_reason: Array  # [B] int32: FINISH_STOP or FINISH_LENGTH

    @property
    def lengths(self) -> Array:
        """Length of each response in tokens, the end token included; [B] int32."""
        return self.response_mask.sum(axis=1, dtype="int32")
