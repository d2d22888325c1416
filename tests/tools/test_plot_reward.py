import argparse

import numpy as np
import pytest

from phi4r.errors import UserError
from phi4r.rl.rewards import RewardSettings
from phi4r.tools import plot_reward


def parse(*argv):
    parser = argparse.ArgumentParser()
    plot_reward.add_arguments(parser)
    return parser.parse_args([str(argument) for argument in argv])


def test_the_command_writes_a_png(tmp_path):
    path = tmp_path / "new" / "reward.png"
    plot_reward.run(parse(path, "--l_max", 320))
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in path.parent.iterdir()] == ["reward.png"]


def test_curves_pass_through_the_golden_points():
    figure = plot_reward.reward_figure(RewardSettings())
    correct, incorrect = figure.axes[0].get_lines()[:2]
    assert np.interp(28672, *correct.get_data()) == pytest.approx(0.75, abs=1e-3)
    assert np.interp(1851, *incorrect.get_data()) == pytest.approx(-0.75, abs=1e-3)
    assert correct.get_xdata()[-1] == 31744


def test_thresholds_out_of_order_are_refused(tmp_path):
    with pytest.raises(UserError, match="positive_control_length"):
        plot_reward.run(parse(tmp_path / "reward.png", "--l_max", 100, "--l_pos_control", 200))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        plot_reward.run(parse(tmp_path / "file" / "reward.png"))
