"""How answers are decoded."""

import dataclasses

from phi4r.errors import UserError
from phi4r.sampling import SamplingParams
from phi4r.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class DecodingSettings:
    """How answers are decoded; the defaults are those of the Phi-4-reasoning release.

    Attributes:
      temperature: 0 is greedy.
      top_p: nucleus, 1 for all tokens.
      top_k: 0 for all tokens.
      max_tokens: limit of a response, its end token included.
      min_p: least probability of a token as a share of the likeliest one's, 0 for all tokens.
      stop: strings at which a response ends.
      max_thought: tokens after which an open thought is closed by force (budget forcing, not in the paper), 0 for no
        thought at all; None for thoughts of any length.
    """

    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 50
    max_tokens: int = 32768
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    max_thought: int | None = None

    def __post_init__(self):
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.max_tokens < 1:
            raise UserError(
                "decoding needs temperature >= 0, 0 < top_p <= 1, top_k >= 0 and max_tokens >= 1, not "
                f"{self.temperature:g}, {self.top_p:g}, {self.top_k} and {self.max_tokens}."
            )
        if not 0 <= self.min_p < 1:
            raise UserError(f"decoding needs 0 <= min_p < 1, not {self.min_p:g}.")
        if self.max_thought is not None and self.max_thought < 0:
            raise UserError(f"decoding needs max_thought >= 0, not {self.max_thought}; leave it out for no limit.")
        if "" in self.stop:
            raise UserError("decoding has an empty stop string, which would end every response; leave it out.")

    def params(self) -> SamplingParams:
        """Returns what the sampler takes; `stop` is the generator's."""
        values = dataclasses.asdict(self)
        del values["stop"]
        if self.max_thought is None:
            del values["max_thought"]
        return SamplingParams(**values)

    def end_think_id(self, tokenizer: Tokenizer) -> int | None:
        """Returns the token that closes a thought by force, which the sampler is told only where that is wanted.

        Raises:
          UserError: for `max_thought` and a tokenizer without think tokens.
        """
        return None if self.max_thought is None else tokenizer.end_think_id
