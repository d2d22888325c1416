import dataclasses

import pytest

from configs import common
from phi4r.errors import UserError
from phi4r.rl.grpo import GrpoSettings
from phi4r.settings import build

PRESETS = {
    name: build(GrpoSettings, common.grpo(name, max_response=100).to_dict(), where="grpo")
    for name in common.GRPO_PRESETS
}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"group_size": 1}, "group_size=1 leaves nothing to compare with"),
        ({"clip_low": 0.0}, "clip_low=0.0 must be more than 0"),
        ({"clip_low": 1.5}, "clip_low=1.5 must be more than 0 and at most 1"),
        ({"clip_high": 0.0}, "clip_high=0.0 must be positive"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"advantage_eps": -1.0}, "advantage_eps not negative"),
        ({"kl_beta": -0.1}, "kl_beta=-0.1 rewards the distance"),
        ({"updates_per_rollout": 0}, "updates_per_rollout=0 must be at least 1"),
        ({"dual_clip": 0.9}, "dual_clip=0.9 must be more than 1"),
        ({"sequence_mask": 1.0}, "sequence_mask=1.0 must be more than 1"),
        ({"max_logprob_gap": -1.0}, "max_logprob_gap=-1.0 must be positive"),
        # pairs
        ({"surrogate": "cispo", "dual_clip": 3.0}, "grpo.dual_clip bounds the surrogate 'clip'"),
        ({"aggregation": "constant_length"}, "'constant_length' needs the constant"),
        ({"length_constant": 100}, "nothing else has one"),
        ({"baseline": "leave_one_out"}, "Set grpo.group_std='none'"),
        ({"importance_cap": 2.0}, "set grpo.old_logprobs='trainer'"),
    ],
)
def test_settings_without_sense_are_refused_in_one_line(setting, message):
    with pytest.raises(UserError, match=message) as refused:
        GrpoSettings(**setting)
    assert "grpo." in str(refused.value) and "\n" not in str(refused.value)


def test_the_preset_of_the_paper_is_the_default():
    assert PRESETS["grpo_paper"] == GrpoSettings()


def changed(settings: GrpoSettings) -> dict:
    """What a preset changes of the paper's objective, penalty and bonus aside."""
    values = dataclasses.asdict(settings)
    plain = {**dataclasses.asdict(GrpoSettings()), "kl_beta": 0.0, "entropy_gamma": 0.0}
    return {name: value for name, value in values.items() if value != plain[name]}


def test_the_presets_are_the_published_objectives():
    assert {name: changed(settings) for name, settings in PRESETS.items() if name != "grpo_paper"} == {
        "dapo": {"clip_high": 0.28, "aggregation": "token_mean"},
        "dr_grpo": {"group_std": "none", "aggregation": "constant_length", "length_constant": 100},
        "gspo": {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
        "cispo": {"surrogate": "cispo", "clip_low": 1.0, "clip_high": 4.0, "aggregation": "token_mean"},
        "rloo": {
            "baseline": "leave_one_out",
            "group_std": "none",
            "aggregation": "constant_length",
            "length_constant": 100,
        },
    }
