import dataclasses
from typing import Any, Literal

import ml_collections
import pytest

from phi4r.errors import UserError
from phi4r.settings import build, first_difference


@dataclasses.dataclass(frozen=True)
class Schedule:
    warmup_steps: int
    decay: Literal["none", "cosine"] = "cosine"


@dataclasses.dataclass(frozen=True)
class Settings:
    learning_rate: float
    schedule: Schedule
    betas: tuple[float, ...] = (0.9, 0.95)
    clip: float | None = 1.0
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    shuffle: bool = True
    name: str = "adamw"
    extra: Any = None


FULL = {"learning_rate": 1e-5, "schedule": {"warmup_steps": 450}}


def test_a_section_becomes_nested_frozen_dataclasses():
    settings = build(
        Settings,
        {
            "learning_rate": 1,
            "schedule": {"warmup_steps": 450, "decay": "none"},
            "betas": [0.9, 1],
            "clip": None,
            "weights": {"math": 2},
            "shuffle": False,
        },
        where="config.optimizer",
    )
    assert settings == Settings(1.0, Schedule(450, "none"), (0.9, 1.0), None, {"math": 2.0}, False)
    assert isinstance(settings.learning_rate, float)
    assert isinstance(settings.weights["math"], float)


def test_a_section_of_a_config_file_is_read_like_a_dict():
    section = ml_collections.ConfigDict({**FULL, "betas": (0.9, 0.95), "clip": None}).to_dict()
    assert build(Settings, section, where="config") == Settings(1e-5, Schedule(450), clip=None)


def test_a_dataclass_that_is_built_already_is_kept():
    schedule = Schedule(10)
    assert build(Settings, {**FULL, "schedule": schedule}, where="config").schedule is schedule


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 1.0}, "config.lerning_rate is not a setting; did you mean config.learning_rate?"),
        ({"zzz": 1}, "config.zzz is not a setting; known keys: betas, clip"),
        ({"schedule": {"warmup": 1}}, "config.schedule.warmup is not a setting; did you mean"),
        ({"schedule": {}}, "config.schedule.warmup_steps is missing"),
        ({"schedule": 3}, "config.schedule must be a section with keys, not 3"),
        ({"schedule": {"warmup_steps": 1.5}}, "config.schedule.warmup_steps must be int, not 1.5"),
        ({"schedule": {"warmup_steps": True}}, "config.schedule.warmup_steps must be int, not True"),
        ({"schedule": {"warmup_steps": 1, "decay": "linear"}}, r"decay must be one of \['none', 'cosine'\]"),
        ({"learning_rate": "1e-5"}, "config.learning_rate must be float, not '1e-5'"),
        ({"learning_rate": True}, "config.learning_rate must be float, not True"),
        ({"learning_rate": None}, "config.learning_rate must be float, not None"),
        ({"betas": [0.9, "x"]}, r"config.betas\[1\] must be float"),
        ({"betas": 0.9}, "config.betas must be"),
        ({"weights": {"math": "2"}}, "config.weights.math must be float"),
        ({"shuffle": 1}, "config.shuffle must be bool, not 1"),
        ({"name": 3}, "config.name must be str, not 3"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_by_its_dotted_name(changes, message):
    with pytest.raises(UserError, match=message):
        build(Settings, {**FULL, **changes}, where="config")


def test_a_missing_key_is_named_with_the_way_to_give_it():
    with pytest.raises(UserError, match=r"config.learning_rate is missing; .*--config.learning_rate="):
        build(Settings, {"schedule": {"warmup_steps": 1}}, where="config")


def test_the_first_difference_of_nested_values_is_named():
    before = {"a": 1, "b": {"c": [1, 2], "d": {}}}
    assert first_difference(before, {"a": 1, "b": {"c": [1, 2], "d": {}}}) is None
    assert first_difference(before, {"a": 1, "b": {"c": [1, 3], "d": {}}}) == ("b.c", [1, 2], [1, 3])
    assert first_difference({"a": 1}, {"a": 1, "e": 5}) == ("e", None, 5)
