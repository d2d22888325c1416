import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from phi4r.errors import UserError
from phi4r.model.inputs import make_token_batch
from phi4r.sharding import MeshSettings, make_mesh
from phi4r.train.guards import Alert, Guards, GuardSettings
from phi4r.train.setup import rows_to_mesh

ROWS = {"tokens": np.arange(6).reshape(2, 3), "weight": np.array([0.5, np.nan], np.float32)}


def step(loss=1.0, finite=1.0, **others):
    return {"loss": loss, "grad_norm": 2.0, "param_norm": 3.0, "finite": finite, **others}


BAD = step(loss=float("nan"), finite=0.0)


def test_steps_that_are_not_finite_are_counted_and_said(tmp_path, capsys):
    guards = Guards(GuardSettings(max_nonfinite_steps=2), tmp_path)
    seen = [guards.check(i, metrics, ROWS)["skipped"] for i, metrics in enumerate([BAD, step(), BAD, step(), step()])]
    assert seen == [1, 1, 2, 2, 2]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[1].startswith(
        "phi4r: step 2 is not finite (loss nan, gradient norm 2, parameter norm 3) and was skipped"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_them_stops_with_the_last_batch_on_disk(tmp_path):
    guards = Guards(GuardSettings(max_nonfinite_steps=3), tmp_path)
    for number in (1, 2, 4, 5):
        guards.check(number, step() if number == 2 else BAD, ROWS)
    with pytest.raises(
        UserError, match=r"step 6 is not finite .* and so were 3 in a row; none of them was applied"
    ) as e:
        guards.check(6, BAD, ROWS)
    path = tmp_path / "nonfinite" / "step000006.npz"
    assert str(path) in str(e.value) and "\n" not in str(e.value)
    assert list(path.parent.iterdir()) == [path]
    with np.load(path) as saved:
        assert sorted(saved) == ["tokens", "weight"]
        for name in saved:
            np.testing.assert_array_equal(saved[name], ROWS[name])


def test_a_batch_is_saved_whole_and_in_the_order_of_its_rows(tmp_path):
    mesh = make_mesh(MeshSettings(fsdp=2, context=4))
    tokens = np.arange(4 * 16).reshape(4, 16)
    batch = make_token_batch(tokens, np.ones_like(tokens), np.ones_like(tokens, bool))
    guards = Guards(GuardSettings(max_nonfinite_steps=1), tmp_path)
    with jax.set_mesh(mesh), pytest.raises(UserError):
        on_mesh = rows_to_mesh(batch, mesh)
        assert (np.asarray(on_mesh.tokens) != tokens).any()  # zigzag
        guards.check(1, BAD, on_mesh)
    with np.load(tmp_path / "nonfinite" / "step000001.npz") as saved:
        np.testing.assert_array_equal(saved["tokens"], tokens)
        np.testing.assert_array_equal(saved["loss_mask"], batch.loss_mask)


LOSSES = [2.0, 2.1, 1.9, 2.0, 2.1, 1.9, 2.0, 2.1, 1.9, 2.0]  # median 2.0, median distance 0.1


@pytest.mark.parametrize(("loss", "spikes"), [(2.9, 0), (3.1, 1), (-50.0, 0)])
def test_a_loss_far_above_the_recent_ones_is_a_spike(tmp_path, capsys, loss, spikes):
    guards = Guards(GuardSettings(spike_factor=10.0), tmp_path)
    for number, usual in enumerate(LOSSES):
        assert guards.check(number, step(usual), ROWS)["loss_spikes"] == 0
    assert guards.check(10, step(loss), ROWS)["loss_spikes"] == spikes
    assert capsys.readouterr().err.count("the loss of step 10 is 3.1, far above the 2 of late") == spikes


def test_negative_losses_have_spikes_too(tmp_path):
    guards = Guards(GuardSettings(spike_factor=10.0), tmp_path)
    for number, usual in enumerate(LOSSES):
        guards.check(number, step(usual - 2.0), ROWS)
    assert guards.check(10, step(0.9), ROWS)["loss_spikes"] == 0
    assert guards.check(11, step(1.2), ROWS)["loss_spikes"] == 1


@pytest.mark.parametrize(("factor", "usual"), [(10.0, LOSSES[:9]), (0.0, LOSSES)])
def test_without_a_past_or_a_factor_nothing_is_a_spike(tmp_path, factor, usual):
    guards = Guards(GuardSettings(spike_factor=factor), tmp_path)
    for number, loss in enumerate([*usual, 1e9]):
        assert guards.check(number, step(loss), ROWS)["loss_spikes"] == 0


def test_a_resumed_guard_is_the_uninterrupted_one(tmp_path, capsys):
    settings, alerts = GuardSettings(max_nonfinite_steps=2), [Alert("entropy", lambda value: value < 1, "low")]
    past = [*(step(loss, entropy=0.5) for loss in LOSSES), step(9.0), BAD]
    future = [step(8.0, entropy=0.5), BAD, step(2.0)]
    whole, first, second = (Guards(settings, tmp_path, alerts) for _ in range(3))
    for number, metrics in enumerate(past):
        whole.check(number, metrics, ROWS)
        first.check(number, metrics, ROWS)
    capsys.readouterr()
    second.resume(first.state())
    for number, metrics in enumerate(future):
        assert second.check(number, metrics, ROWS) == whole.check(number, metrics, ROWS)
    said = capsys.readouterr().err.splitlines()
    assert sorted(said)[::2] == sorted(said)[1::2] and len(said) == 4
    assert second.state() == whole.state()
    with pytest.raises(UserError):  # the skipped step before the resume counts
        third = Guards(settings, tmp_path, alerts)
        third.resume(first.state())
        third.check(12, BAD, ROWS)


def test_an_unhealthy_number_is_said_once_a_run(tmp_path, capsys):
    alerts = [
        Alert("entropy", lambda value: value < 0.01, "the entropy is {value:.2g}."),
        Alert("timeouts", lambda value: value > 0.5, "{value:.0%} ran out of time."),
    ]
    guards = Guards(GuardSettings(), tmp_path, alerts)
    for number, entropy in enumerate([0.5, float("nan"), 0.004, 0.003]):
        guards.check(number, step(entropy=entropy), ROWS)
    guards.check(4, step(entropy=0.001, timeouts=0.75), ROWS)
    assert capsys.readouterr().err.splitlines() == [
        "phi4r: step 2: the entropy is 0.004. (Said once a run.)",
        "phi4r: step 4: 75% ran out of time. (Said once a run.)",
    ]


@pytest.mark.parametrize("changes", [{"max_nonfinite_steps": 0}, {"spike_factor": -1.0}])
def test_limits_without_sense_are_refused(changes):
    with pytest.raises(UserError, match=f"guards.{next(iter(changes))}="):
        GuardSettings(**changes)


def test_shardings_do_not_matter_to_a_saved_batch(tmp_path):
    mesh = make_mesh(MeshSettings(fsdp=8))
    spread = jax.device_put(np.arange(16.0), NamedSharding(mesh, PartitionSpec("fsdp")))
    with pytest.raises(UserError):
        Guards(GuardSettings(max_nonfinite_steps=1), tmp_path).check(1, BAD, {"x": spread})
    with np.load(tmp_path / "nonfinite" / "step000001.npz") as saved:
        np.testing.assert_array_equal(saved["x"], np.arange(16.0))
