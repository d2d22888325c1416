"""A model whose every answer is known."""

import pathlib
from collections.abc import Callable

import pytest

from tests.evals.parrot import write_parrot

ANSWER = "</think>\\boxed{3}"


@pytest.fixture(scope="session")
def make_model(tmp_path_factory) -> Callable[..., pathlib.Path]:
    """Returns a function: (answer, system_message) -> folder of a model that answers just that to everything."""
    made: dict[tuple, pathlib.Path] = {}

    def make(answer: str = ANSWER, system_message: str | None = None) -> pathlib.Path:
        if (answer, system_message) not in made:
            root = tmp_path_factory.mktemp("model")
            made[answer, system_message] = write_parrot(root, answer, system_message=system_message)
        return made[answer, system_message]

    return make
