import jax
import numpy as np
import pytest

from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Samples, SamplingParams
from phi4r.sampling.generator import SamplerGenerator, decode_responses
from phi4r.text.chat import load_chat
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """The reasoning chat of the quickstart."""
    root = tmp_path_factory.mktemp("tokenizer")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root)
    write_reasoning_tokenizer(root, root, system_message=None)
    return load_chat(root)


class RecordedSampler:
    """Answers "yes" and "no" in turn, each cut off at `max_response`; keeps what it was asked."""

    def __init__(self, chat, responses):
        self._chat, self._responses = chat, responses

    def sample(self, unrolled, prompts, key, *, num_samples, sampling):
        self.asked = (unrolled, prompts, key, num_samples, sampling)
        rows = [self._responses[i % len(self._responses)] for i in range(len(prompts) * num_samples)]
        return make_samples(rows, eos_id=self._chat.tokenizer.eos_id)


def make_samples(responses, *, eos_id) -> Samples:
    """Samples of an empty prompt place and the given responses."""
    width = 1 + max(map(len, responses))
    tokens, mask = np.full((len(responses), width), eos_id, np.int32), np.zeros((len(responses), width), bool)
    for row, response in enumerate(responses):
        tokens[row, 1 : 1 + len(response)] = response
        mask[row, 1 : 1 + len(response)] = True
    ended = np.array([response[-1] == eos_id for response in responses])
    reasons = np.where(ended, FINISH_STOP, FINISH_LENGTH).astype(np.int32)
    return Samples(tokens, mask.astype(np.int32), mask, np.zeros(mask.shape, np.float32), reasons)


def test_texts_keep_the_tags_of_the_thought_and_lose_the_end_token(chat):
    tokenizer = chat.tokenizer
    ids = tokenizer.encode("<think> +3 0</think>\\boxed{0}", specials=True)
    samples = make_samples([[*ids, tokenizer.eos_id], ids, [tokenizer.eos_id]], eos_id=tokenizer.eos_id)
    assert decode_responses(samples, chat) == ["<think> +3 0</think>\\boxed{0}"] * 2 + [""]


def test_an_end_token_within_a_response_is_not_taken_away(chat):
    tokenizer = chat.tokenizer
    ids = tokenizer.encode("a")
    samples = make_samples([[*ids, tokenizer.eos_id, tokenizer.eos_id]], eos_id=tokenizer.eos_id)
    assert decode_responses(samples, chat) == ["a<|im_end|>"]


def test_completions_come_in_groups_with_their_lengths_and_reasons(chat):
    tokenizer = chat.tokenizer
    yes, no = ([*tokenizer.encode("yes"), tokenizer.eos_id], tokenizer.encode("no"))
    sampler = RecordedSampler(chat, [yes, no])
    sampling = SamplingParams(temperature=0.5)
    conversations = [[{"role": "user", "content": text}] for text in ("one", "two", "three")]
    answers = SamplerGenerator(sampler, "unrolled", chat, sampling)(conversations, num_samples=2, seed=4)
    assert [[(c.text, c.num_tokens, c.finish_reason) for c in group] for group in answers] == [
        [("yes", len(yes), "stop"), ("no", len(no), "length")]
    ] * 3
    unrolled, prompts, key, num_samples, asked_sampling = sampler.asked
    assert (unrolled, num_samples, asked_sampling) == ("unrolled", 2, sampling)
    assert prompts == [chat.prompt_ids(conversation) for conversation in conversations]
    assert key == jax.random.key(4)
