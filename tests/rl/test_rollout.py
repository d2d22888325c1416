import dataclasses
import math

import jax
import numpy as np
import pytest

from phi4r.checkpoint.release import load_model
from phi4r.data.records import Problem
from phi4r.evals.tasks import Task
from phi4r.rl.curriculum import Curriculum, CurriculumSettings
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.judging import Judge
from phi4r.rl.problems import ProblemQueue, ProblemSet
from phi4r.rl.reward_parts import RewardPart
from phi4r.rl.rewards import Rewards, RewardSettings
from phi4r.rl.rollout import JudgedGroups, Rollout, RolloutEngine, rollout_metrics
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Sampler, SamplerSettings, SamplerStats, Samples, SamplingParams
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.text.chat import load_chat
from phi4r.verifiers.exact import IntegerVerifier
from phi4r.verifiers.pool import VerifierPool
from phi4r.verifiers.verdict import Verdict, judged

G = 4
PROBLEMS = [Problem(id=f"p{i}", prompt=f"chain {i} +3 *9 =", answer=str((i + 3) * 9 % 10)) for i in range(6)]
TASK = Task("chains", tuple(PROBLEMS), IntegerVerifier())
REWARD = RewardSettings(max_length=8, positive_control_length=6, negative_control_length=4)


@pytest.fixture(scope="module")
def chat(policy_folder):
    return load_chat(policy_folder)


def scripted(chat, responses, *, length=20) -> Samples:
    """Samples that answer one-token prompts with the given texts; "..." at the end means that it was cut off."""
    tokenizer = chat.tokenizer
    tokens = np.full((len(responses), 1 + length), tokenizer.pad_id, np.int32)
    mask = np.zeros(tokens.shape, bool)
    reasons = np.array([FINISH_LENGTH if text.endswith("...") else FINISH_STOP for text in responses], np.int32)
    for row, text in enumerate(responses):
        ids = tokenizer.encode(text.removesuffix("..."), specials=True)
        ids = ids if text.endswith("...") else [*ids, tokenizer.eos_id]
        tokens[row, 1 : 1 + len(ids)], mask[row, 1 : 1 + len(ids)] = ids, True
    logprobs = np.where(mask, -0.25, 0).astype(np.float32)
    return Samples(
        tokens=tokens,
        segment_ids=mask.astype(np.int32),
        response_mask=mask,
        logprobs=logprobs,
        entropies=-logprobs,
        finish_reason=reasons,
    )


@dataclasses.dataclass
class ScriptedSampler:
    """Answers each call with its samples, reported from the last row to the first, and keeps what it was asked."""

    rounds: list[Samples]
    stats = SamplerStats(steps=10, slot_share=0.5, tokens_per_step=1.5, evictions=1, seconds=2.0, host_s=0.25)
    asked: list[dict] = dataclasses.field(default_factory=list)

    def sample(self, unrolled, prompts, key, *, on_finished, **asked):
        samples = self.rounds[len(self.asked)]
        self.asked.append({"prompts": prompts, **asked})
        for row in reversed(range(len(samples.tokens))):
            drawn = samples.tokens[row][samples.response_mask[row]]
            on_finished(row, drawn, bool(samples.finish_reason[row] == FINISH_STOP))
        return samples


class Places:
    """The first problem at place 5, the second at place 6, ..."""

    def __len__(self):
        return len(PROBLEMS)

    def __getitem__(self, place):
        return PROBLEMS[(place - 5) % len(PROBLEMS)]


def queue(**curriculum) -> ProblemQueue:
    """A queue that stands at place 5."""
    known = Curriculum(CurriculumSettings(**curriculum), seed=0) if curriculum else None
    problems = ProblemQueue(Places(), known)
    problems.take(5)
    return problems


def roll_out(chat, *rounds, reward=REWARD, fallback=None, num_problems=1, problems=None, **grpo):
    """A rollout of scripted responses, a list for each time that the sampler is asked, and the sampler."""
    sampler = ScriptedSampler([scripted(chat, responses) for responses in rounds])
    settings = GrpoSettings(group_size=len(rounds[0]) // num_problems, **grpo)
    with VerifierPool(num_workers=1) as pool:
        judge = Judge(chat, TASK, pool, reward, fallback)
        engine = RolloutEngine(sampler, chat, judge, settings, num_problems, max_refills=len(rounds) - 1)
        return engine(None, problems or queue(), jax.random.key(0)), sampler


# Judging. The first problem is (0 + 3) * 9 = 27, so its answer is 7.

RIGHT, WRONG = "<think></think>\\boxed{7}", "<think></think>\\boxed{8}"


def test_verdict_format_and_length_become_the_reward_of_every_response(chat):
    responses = [RIGHT, WRONG, "\\boxed{7}", "<think>\\boxed{7}...", RIGHT + "...", "<think></think> no"]
    num_tokens = len(chat.tokenizer.encode(RIGHT, specials=True)) + 1
    assert 4 <= num_tokens <= 6  # the full reward of a right answer, the mildest of a wrong one
    rollout, _ = roll_out(chat, responses)
    assert [verdict.status for verdict in rollout.verdicts] == ["ok"] * 5 + ["no_answer"]
    np.testing.assert_array_equal(rollout.rewards.accuracy, [1, 0, 1, 0, 0, 0])  # a cut-off answer is none
    scaled = [1.0, -0.5, -1.0, -1.0, -0.5, rollout.rewards.parts["accuracy"][5]]
    np.testing.assert_allclose(rollout.rewards.parts["accuracy"], scaled, atol=1e-6)
    np.testing.assert_allclose(rollout.rewards.total, 8 / 13 * np.array(scaled), atol=1e-6)


def test_repetition_is_judged_on_the_text(chat):
    reward = dataclasses.replace(REWARD, max_length=1000, positive_control_length=900)
    rollout, _ = roll_out(chat, ["<think></think>" + " =" * 10 + "\\boxed{7}", RIGHT], reward=reward)
    # "<think></think> =...= =\boxed{7}": 11 words, 7 5-grams, of which "= = = = =" 5 times: not more than 5.
    np.testing.assert_array_equal(rollout.rewards.parts["repetition"], [0, 0])
    rollout, _ = roll_out(chat, ["<think></think>" + " =" * 12 + "\\boxed{7}", RIGHT], reward=reward)
    # 13 words, 9 5-grams, the same one 7 times: max(1/9, 7 / (13 / 5)).
    np.testing.assert_allclose(rollout.rewards.parts["repetition"], [-35 / 13, 0], rtol=1e-6)


def test_advantages_are_taken_within_the_group_of_a_problem(chat):
    # Rewards 1, -0.5 of the first problem; the second one's answer is (1 + 3) * 9 = 36 -> 6: two wrong, no spread.
    rollout, _ = roll_out(chat, [RIGHT, WRONG, RIGHT, WRONG], num_problems=2, advantage_eps=0.0)
    np.testing.assert_allclose(rollout.advantages, [1, -1, 0, 0], atol=1e-6)
    assert rollout.metrics["zero_spread_share"] == 0.5


def test_the_sampler_is_asked_as_the_settings_say(chat):
    _, sampler = roll_out(chat, [RIGHT, WRONG] * 2, num_problems=2, temperature=0.9)
    [asked] = sampler.asked
    assert asked["prompts"] == [chat.prompt_ids([{"role": "user", "content": p.prompt}]) for p in PROBLEMS[:2]]
    assert asked["prompt_ids"] == [5, 6] and asked["num_samples"] == 2
    assert asked["sampling"] == SamplingParams(temperature=0.9)  # no top-k, no top-p


def test_the_fallback_is_asked_only_about_whole_responses_without_an_answer(chat):
    asked = []

    def fallback(problem, text):
        asked.append((problem.id, text))
        return judged("seven", True)

    responses = [RIGHT, WRONG, "<think></think> seven", "<think> sev..."]
    rollout, _ = roll_out(chat, responses, fallback=fallback)
    assert asked == [("p0", "<think></think> seven")]
    assert rollout.verdicts[2] == Verdict(True, 1.0, "seven", "ok")
    np.testing.assert_array_equal(rollout.rewards.accuracy, [1, 0, 1, 0])


# Dynamic sampling. The answers of the first four problems are 7, 6, 5, 4.


def boxed(*digits):
    return [f"<think></think>\\boxed{{{digit}}}" for digit in digits]


def test_groups_without_spread_give_their_places_to_further_problems(chat):
    first = boxed(7, 8, 6, 6, 1, 1)  # p0 has spread, p1 is always right, p2 always wrong
    second = boxed(4, 4, 3, 9)  # p3 is always right; the answer to p4 is 3
    third = boxed(2, 0)  # the answer to p5 is 2
    rollout, sampler = roll_out(chat, first, second, third, num_problems=3)
    assert [problem.id for problem in rollout.problems] == ["p0", "p4", "p5"]
    assert rollout.texts == [*first[:2], *second[2:], *third]
    np.testing.assert_array_equal(rollout.rewards.accuracy, [1, 0, 1, 0, 1, 0])
    np.testing.assert_allclose(rollout.advantages, [1, -1] * 3, atol=1e-5)
    drawn = [row[mask] for row, mask in zip(rollout.samples.tokens, rollout.samples.response_mask, strict=True)]
    assert [chat.tokenizer.decode(ids[:-1]) for ids in drawn] == rollout.texts
    assert [problem.id for problem in rollout.dropped.problems] == ["p1", "p2", "p3"]
    assert rollout.dropped.texts == [*first[2:], *second[:2]]
    assert [asked["prompt_ids"] for asked in sampler.asked] == [[5, 6, 7], [8, 9], [10]]


def test_metrics_are_of_everything_that_was_sampled(chat):
    rollout, _ = roll_out(chat, boxed(7, 8, 6, 6), boxed(5, 4), num_problems=2)
    assert rollout.metrics["accuracy"] == pytest.approx(4 / 6)
    assert rollout.metrics["zero_spread_share"] == pytest.approx(1 / 3)
    assert (rollout.metrics["dropped_groups"], rollout.metrics["refills"]) == (1, 1)


def test_where_spread_is_lacking_at_the_cap_groups_without_it_fill_the_batch(chat):
    rollout, sampler = roll_out(chat, boxed(7, 7, 6, 6), boxed(5, 1, 4, 4), num_problems=2)
    assert [problem.id for problem in rollout.problems] == ["p0", "p2"]  # in the order in which they were asked
    np.testing.assert_allclose(rollout.advantages, [0, 0, 1, -1], atol=1e-5)
    assert [problem.id for problem in rollout.dropped.problems] == ["p1", "p3"]
    assert len(sampler.asked) == 2


def test_without_refills_nothing_is_dropped(chat):
    rollout, sampler = roll_out(chat, boxed(7, 7, 6, 1), num_problems=2)
    assert [problem.id for problem in rollout.problems] == ["p0", "p1"]
    assert rollout.dropped is None and "dropped_groups" not in rollout.metrics
    assert len(sampler.asked) == 1


def test_a_rollout_of_spread_asks_only_once(chat):
    rollout, sampler = roll_out(chat, boxed(7, 8), [], num_problems=1)
    assert len(sampler.asked) == 1 and rollout.dropped is None
    assert (rollout.metrics["dropped_groups"], rollout.metrics["refills"]) == (0, 0)


def test_a_resumed_queue_refills_with_the_problems_that_come_next(chat):
    problems = queue()
    roll_out(chat, boxed(7, 7), boxed(6, 1), problems=problems)
    resumed = queue()
    resumed.resume(problems.state())
    assert resumed.take(2).places == [7, 8]


def test_the_curriculum_learns_how_often_a_problem_was_solved(chat):
    problems = queue(low=0.1, high=0.9)
    rollout, _ = roll_out(chat, boxed(7, 8, 6, 6), num_problems=2, problems=problems)
    assert problems.state()["pass_rates"] == {"p0": 0.5, "p1": 1.0}
    assert rollout.metrics["skipped_problems"] == 0


# Metrics


def test_metrics_by_hand(chat):
    samples = scripted(chat, [RIGHT, WRONG, WRONG, "<think>..."])
    right = int(samples.lengths[0])
    rewards = Rewards(
        total=np.array([1.0, -1.0, -1.0, -1.0], np.float32),
        accuracy=np.array([1.0, 0.0, 0.0, 0.0], np.float32),
        parts={
            "accuracy": np.array([0.8, -0.6, -0.6, -0.4], np.float32),
            "mine": np.array([0.0, 0.0, 0.5, 0.25], np.float32),
        },
    )
    verdicts = [Verdict(False, 0.0, None, status) for status in ("ok", "ok", "timeout", "no_answer")]
    others = [Verdict(False, 0.0, None, status) for status in ("ok", "error", "error", "timeout")]
    groups = JudgedGroups(PROBLEMS[:2], samples, [""] * 4, verdicts, others, rewards)
    expected = {
        "reward": -0.5,
        "accuracy": 0.25,
        "reward_accuracy": -0.2,
        "reward_mine": 0.1875,
        "length": (3 * right + 1) / 4,
        "length_min": 1,
        "length_max": right,
        "length_correct": right,
        "length_wrong": (2 * right + 1) / 3,
        "clipped_share": 0.25,
        "zero_spread_share": 0.5,
        "no_answer_share": 0.25,
        "timeout_share": 0.25,
        "error_share": 0.25,
        "failed_share": 0.5,
    }
    assert rollout_metrics(groups) == pytest.approx(expected)
    none_right = dataclasses.replace(rewards, accuracy=np.zeros(4, np.float32))
    assert math.isnan(rollout_metrics(dataclasses.replace(groups, rewards=none_right))["length_correct"])


def test_parts_scored_by_verifiers_are_in_reward_and_metrics(chat):
    parts = (RewardPart("correct", 1.0), RewardPart("integer", 0.5, fields={"max_digits": 1}))
    reward = dataclasses.replace(REWARD, parts=parts)
    rollout, _ = roll_out(chat, boxed(7, 8), reward=reward)
    assert {name: part.tolist() for name, part in rollout.rewards.parts.items()} == {
        "correct": [1.0, 0.0],
        "integer": [1.0, 0.0],
    }
    np.testing.assert_array_equal(rollout.rewards.total, [1.5, 0.0])
    assert (rollout.metrics["reward_correct"], rollout.metrics["reward_integer"]) == (0.5, 0.5)


# With a model


def model_rollout(policy_folder, chat, mesh_settings, devices=None) -> Rollout:
    mesh = make_mesh(mesh_settings, devices)
    model = load_model(policy_folder, mesh=mesh)
    sampler = Sampler(
        model.config,
        SamplerSettings(prompt_length=24, max_response=8),
        eos_ids=[chat.tokenizer.eos_id],
        pad_id=chat.tokenizer.pad_id,
        mesh=mesh,
    )
    reward = dataclasses.replace(REWARD, incomplete_and_think_missing=-0.5)  # stopping early makes a difference
    with VerifierPool(num_workers=1) as pool:
        engine = RolloutEngine(sampler, chat, Judge(chat, TASK, pool, reward), GrpoSettings(group_size=G), 6)
        problems = ProblemQueue(ProblemSet(PROBLEMS, seed=0))
        return engine(sampler.unroll(model.params), problems, jax.random.key(3))


def test_eight_devices_roll_out_what_one_does(policy_folder, chat):
    spread = model_rollout(policy_folder, chat, MeshSettings(fsdp=8))
    alone = model_rollout(policy_folder, chat, MeshSettings(), jax.devices()[:1])
    assert set(alone.samples.finish_reason) == {FINISH_STOP, FINISH_LENGTH}
    np.testing.assert_array_equal(spread.samples.tokens, alone.samples.tokens)
    np.testing.assert_array_equal(spread.rewards.total, alone.rewards.total)
    np.testing.assert_array_equal(spread.advantages, alone.advantages)
    assert spread.texts == alone.texts and spread.verdicts == alone.verdicts
    assert alone.metrics["zero_spread_share"] < 1
