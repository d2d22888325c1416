import dataclasses
import math

import jax
import numpy as np
import pytest

from phi4r.checkpoint.release import load_model
from phi4r.data.records import Problem
from phi4r.data.sources import open_source
from phi4r.evals.tasks import Task
from phi4r.rl.grpo import GrpoSettings
from phi4r.rl.problems import StepProblems
from phi4r.rl.rewards import Rewards, RewardSettings
from phi4r.rl.rollout import Rollout, RolloutEngine, rollout_metrics, save_rollout
from phi4r.sampling import FINISH_LENGTH, FINISH_STOP, Sampler, SamplerSettings, Samples, SamplingParams
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
    return Samples(tokens, mask.astype(np.int32), mask, np.where(mask, -0.25, 0).astype(np.float32), reasons)


@dataclasses.dataclass
class ScriptedSampler:
    """Answers with fixed samples and keeps what it was asked."""

    samples: Samples

    def sample(self, unrolled, prompts, key, **asked):
        self.prompts, self.asked = prompts, asked
        return self.samples


def roll_out(chat, responses, *, reward=REWARD, fallback=None, num_problems=1, **grpo):
    """A rollout of scripted responses to the first problems, and the sampler that was asked."""
    sampler = ScriptedSampler(scripted(chat, responses))
    settings = GrpoSettings(group_size=len(responses) // num_problems, **grpo)
    with VerifierPool(num_workers=1) as pool:
        engine = RolloutEngine(sampler, chat, TASK, pool, settings, reward, fallback)
        asked = StepProblems(PROBLEMS[:num_problems], list(range(5, 5 + num_problems)))
        return engine(None, asked, jax.random.key(0)), sampler


# Judging. The first problem is (0 + 3) * 9 = 27, so its answer is 7.

RIGHT, WRONG = "<think></think>\\boxed{7}", "<think></think>\\boxed{8}"


def test_verdict_format_and_length_become_the_reward_of_every_response(chat):
    responses = [RIGHT, WRONG, "\\boxed{7}", "<think>\\boxed{7}...", RIGHT + "...", "<think></think> no"]
    num_tokens = len(chat.tokenizer.encode(RIGHT, specials=True)) + 1
    assert 4 <= num_tokens <= 6  # the full reward of a right answer, the mildest of a wrong one
    rollout, _ = roll_out(chat, responses)
    assert [verdict.status for verdict in rollout.verdicts] == ["ok"] * 5 + ["no_answer"]
    np.testing.assert_array_equal(rollout.rewards.accuracy, [1, 0, 1, 0, 0, 0])  # a cut-off answer is none
    scaled = [1.0, -0.5, -1.0, -1.0, -0.5, rollout.rewards.accuracy_scaled[5]]
    np.testing.assert_allclose(rollout.rewards.accuracy_scaled, scaled, atol=1e-6)
    np.testing.assert_allclose(rollout.rewards.total, 8 / 13 * np.array(scaled), atol=1e-6)


def test_repetition_is_judged_on_the_text(chat):
    reward = dataclasses.replace(REWARD, max_length=1000, positive_control_length=900)
    rollout, _ = roll_out(chat, ["<think></think>" + " =" * 10 + "\\boxed{7}", RIGHT], reward=reward)
    # "<think></think> =...= =\boxed{7}": 11 words, 7 5-grams, of which "= = = = =" 5 times: not more than 5.
    np.testing.assert_array_equal(rollout.rewards.repetition, [0, 0])
    rollout, _ = roll_out(chat, ["<think></think>" + " =" * 12 + "\\boxed{7}", RIGHT], reward=reward)
    # 13 words, 9 5-grams, the same one 7 times: max(1/9, 7 / (13 / 5)).
    np.testing.assert_allclose(rollout.rewards.repetition, [-35 / 13, 0], rtol=1e-6)


def test_advantages_are_taken_within_the_group_of_a_problem(chat):
    # Rewards 1, -0.5 of the first problem; the second one's answer is (1 + 3) * 9 = 36 -> 6: two wrong, no spread.
    rollout, _ = roll_out(chat, [RIGHT, WRONG, RIGHT, WRONG], num_problems=2, advantage_eps=0.0)
    np.testing.assert_allclose(rollout.advantages, [1, -1, 0, 0], atol=1e-6)
    assert rollout.metrics["zero_spread_share"] == 0.5


def test_the_sampler_is_asked_as_the_settings_say(chat):
    _, sampler = roll_out(chat, [RIGHT, WRONG] * 2, num_problems=2, temperature=0.9)
    assert sampler.prompts == [chat.prompt_ids([{"role": "user", "content": p.prompt}]) for p in PROBLEMS[:2]]
    assert sampler.asked["prompt_ids"] == [5, 6] and sampler.asked["num_samples"] == 2
    assert sampler.asked["sampling"] == SamplingParams(temperature=0.9)  # no top-k, no top-p


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


# Metrics and records


def test_metrics_by_hand(chat):
    samples = scripted(chat, [RIGHT, WRONG, WRONG, "<think>..."])
    right = int(samples.lengths[0])
    rewards = Rewards(
        total=np.array([1.0, -1.0, -1.0, -0.5], np.float32),
        accuracy=np.array([1.0, 0.0, 0.0, 0.0], np.float32),
        accuracy_scaled=np.array([0.8, -0.6, -0.6, -0.4], np.float32),
        repetition=np.array([0.0, 0.0, -1.0, -3.0], np.float32),
    )
    statuses = ["ok", "ok", "timeout", "no_answer"]
    verdicts = [Verdict(False, 0.0, None, status) for status in statuses]
    metrics = rollout_metrics(samples, rewards, verdicts)
    expected = {
        "reward": -0.375,
        "accuracy": 0.25,
        "reward_accuracy": -0.2,
        "reward_repetition": -1.0,
        "length": (3 * right + 1) / 4,
        "length_min": 1,
        "length_max": right,
        "length_correct": right,
        "length_wrong": (2 * right + 1) / 3,
        "clipped_share": 0.25,
        "no_answer_share": 0.25,
        "timeout_share": 0.25,
    }
    assert metrics == pytest.approx(expected)
    none_right = dataclasses.replace(rewards, accuracy=np.zeros(4, np.float32))
    assert math.isnan(rollout_metrics(samples, none_right, verdicts)["length_correct"])


def test_a_saved_rollout_reads_back(chat, tmp_path):
    rollout, _ = roll_out(chat, [RIGHT, WRONG, RIGHT, "<think>..."], num_problems=2)
    path = tmp_path / "rollouts" / "000001.arrayrecord"
    save_rollout(path, rollout)
    rows = open_source(f"arrayrecord:{path}")
    assert [(rows[i]["problem"], rows[i]["sample"]) for i in range(len(rows))] == [
        ("p0", 0),
        ("p0", 1),
        ("p1", 0),
        ("p1", 1),
    ]
    assert rows[0] == {
        "problem": "p0",
        "sample": 0,
        "prompt": "chain 0 +3 *9 =",
        "reference": "7",
        "text": RIGHT,
        "tokens": [*chat.tokenizer.encode(RIGHT, specials=True), chat.tokenizer.eos_id],
        "logprobs": [-0.25] * int(rollout.samples.lengths[0]),
        "finish_reason": "stop",
        "answer": "7",
        "status": "ok",
        "correct": True,
        "reward": pytest.approx(8 / 13),
        "reward_accuracy": 1.0,
        "reward_repetition": 0.0,
        "advantage": pytest.approx(1.0, abs=1e-4),
    }
    assert (rows[3]["finish_reason"], rows[3]["answer"], rows[3]["status"]) == ("length", None, "no_answer")
    assert [path.name for path in path.parent.iterdir()] == ["000001.arrayrecord"]


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
        engine = RolloutEngine(sampler, chat, TASK, pool, GrpoSettings(group_size=G), reward)
        return engine(sampler.unroll(model.params), StepProblems(PROBLEMS, list(range(6))), jax.random.key(3))


def test_eight_devices_roll_out_what_one_does(policy_folder, chat):
    spread = model_rollout(policy_folder, chat, MeshSettings(fsdp=8))
    alone = model_rollout(policy_folder, chat, MeshSettings(), jax.devices()[:1])
    assert set(alone.samples.finish_reason) == {FINISH_STOP, FINISH_LENGTH}
    np.testing.assert_array_equal(spread.samples.tokens, alone.samples.tokens)
    np.testing.assert_array_equal(spread.rewards.total, alone.rewards.total)
    np.testing.assert_array_equal(spread.advantages, alone.advantages)
    assert spread.texts == alone.texts and spread.verdicts == alone.verdicts
    assert alone.metrics["zero_spread_share"] < 1
