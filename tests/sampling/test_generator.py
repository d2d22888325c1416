import functools

import jax
import numpy as np
import pytest

from phi4r.model.config import ModelConfig
from phi4r.model.transformer import init_params
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Sampler, SamplerSettings, Samples, SamplingParams
from phi4r.sampling.generator import Completion, SamplerGenerator, decode_responses
from phi4r.text.chat import load_chat
from phi4r.text.reasoning import write_reasoning_tokenizer
from phi4r.text.sentencepiece_training import QUICKSTART_MODEL, write_sentencepiece_folder
from phi4r.text.streaming import StopStrings, TextStream


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """The reasoning chat of the quickstart."""
    root = tmp_path_factory.mktemp("tokenizer")
    write_sentencepiece_folder(QUICKSTART_MODEL.read_bytes(), root)
    write_reasoning_tokenizer(root, root, system_message=None)
    return load_chat(root)


class RecordedSampler:
    """Draws given responses in turn, in bursts of two tokens; keeps what it was asked."""

    def __init__(self, chat, responses):
        self._eos_id, self._responses = chat.tokenizer.eos_id, responses

    def sample(self, unrolled, prompts, key, *, sample_ids, on_tokens, on_finished, find_stop, **asked):
        self.asked = {"unrolled": unrolled, "prompts": prompts, "key": key, "sample_ids": sample_ids, **asked}
        for row in reversed(range(sum(map(len, sample_ids)))):
            response, kept = self._responses[row % len(self._responses)], None
            for start in range(0, len(response), 2):
                drawn = response[: start + 2]
                kept = find_stop(drawn, start) if find_stop else None
                drawn = drawn[:kept]
                if on_tokens is not None:
                    on_tokens(row, drawn[start:])
                if kept is not None:
                    break
            on_finished(row, np.asarray(drawn, np.int32), kept is not None or drawn[-1] == self._eos_id)


def make_samples(responses, *, eos_id) -> Samples:
    """Samples of an empty prompt place and the given responses."""
    width = 1 + max(map(len, responses))
    tokens, mask = np.full((len(responses), width), eos_id, np.int32), np.zeros((len(responses), width), bool)
    for row, response in enumerate(responses):
        tokens[row, 1 : 1 + len(response)] = response
        mask[row, 1 : 1 + len(response)] = True
    ended = np.array([response[-1] == eos_id for response in responses])
    reasons = np.where(ended, FINISH_STOP, FINISH_LENGTH).astype(np.int32)
    zeros = np.zeros(mask.shape, np.float32)
    return Samples(tokens, mask.astype(np.int32), mask, zeros, zeros, reasons)


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
    asked = sampler.asked
    assert (asked["unrolled"], asked["sampling"]) == ("unrolled", sampling)
    assert [list(samples) for samples in asked["sample_ids"]] == [[0, 1]] * 3
    assert asked["prompts"] == [chat.prompt_ids(conversation) for conversation in conversations]
    assert asked["key"] == jax.random.key(4) and asked["prompt_ids"] is None


def test_a_completion_ends_before_the_stop_string_and_counts_the_tokens_that_were_drawn(chat):
    tokenizer = chat.tokenizer
    ended = [*tokenizer.encode("a 12"), tokenizer.eos_id]
    stopped = tokenizer.encode("a 1234567")
    sampler = RecordedSampler(chat, [ended, stopped, tokenizer.encode("a 1")])
    generator = SamplerGenerator(sampler, "unrolled", chat, SamplingParams(), stop=("99", "34"))
    (answers,) = generator([[{"role": "user", "content": "?"}]], num_samples=3, seed=0)
    num_drawn = len(tokenizer.encode("a 1234"))
    assert num_drawn < len(stopped)
    assert answers == [
        Completion("a 12", len(ended), "stop"),
        Completion("a 12", num_drawn, "stop"),
        Completion("a 1", len(tokenizer.encode("a 1")), "length"),
    ]


def test_answers_are_told_as_they_are_drawn_and_as_they_finish(chat):
    tokenizer = chat.tokenizer
    responses = [[*tokenizer.encode(text), tokenizer.eos_id] for text in ("one two three", "four", "five six")]
    drawn: dict[int, list[int]] = {}
    told = []
    answers = SamplerGenerator(RecordedSampler(chat, responses), "unrolled", chat, SamplingParams())(
        [[{"role": "user", "content": text}] for text in "abc"],
        num_samples=1,
        seed=0,
        prompt_ids=[7, 3, 5],
        on_tokens=lambda row, tokens: drawn.setdefault(row, []).extend(tokens),
        on_completion=lambda row, completion: told.append((row, completion)),
    )
    assert [drawn[row] for row in range(3)] == responses
    assert told == [(row, answers[row][0]) for row in (2, 1, 0)]


def test_the_sampler_tells_every_token_of_a_response_once_and_in_order(chat):
    """On the real sampler, with slots that are refilled and a stop string that some responses meet."""
    tokenizer = chat.tokenizer
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        num_layers=1,
        embed_dim=16,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        mlp_dim=16,
        init_std=0.3,
    )
    params = jax.jit(functools.partial(init_params, config))(jax.random.key(0))
    settings = SamplerSettings(prompt_length=16, max_response=24, num_slots=2, page_size=8, burst=5)
    sampler = Sampler(config, settings, eos_ids=[tokenizer.eos_id], pad_id=tokenizer.pad_id)
    generator = SamplerGenerator(sampler, sampler.unroll(params), chat, SamplingParams(), stop=("e", "1"))
    streams = [TextStream(StopStrings(tokenizer, generator.stop)) for _ in range(6)]
    texts, counts = [""] * 6, [0] * 6

    def add(row, tokens):
        counts[row] += len(tokens)
        texts[row] += streams[row].add([token for token in tokens if token != tokenizer.eos_id])

    conversations = [[{"role": "user", "content": text}] for text in "ab"]
    answers = generator(conversations, num_samples=3, seed=1, on_tokens=add)
    completions = [completion for group in answers for completion in group]
    assert counts == [completion.num_tokens for completion in completions]
    assert [text + stream.finish() for text, stream in zip(texts, streams, strict=True)] == [
        completion.text for completion in completions
    ]
    assert {"stop"} <= {completion.finish_reason for completion in completions}
    assert min(counts) < 20 and max(counts) > 5
    # Alone, and under its own number, a prompt is answered as in company.
    assert generator(conversations[1:], num_samples=3, seed=1, prompt_ids=[1]) == answers[1:]
    # So is each of its samples, asked for by its number.
    assert generator(conversations, seed=1, sample_ids=[[2], []]) == [[answers[0][2]], []]
    some = generator(conversations, seed=1, sample_ids=[[2, 0], [1]])
    assert some == [[answers[0][2], answers[0][0]], [answers[1][1]]]
