import json
import logging
import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from phi4r.checkpoint.best import KeepBest
from phi4r.checkpoint.manager import CheckpointManager
from phi4r.errors import UserError
from phi4r.sharding import MeshSettings, make_mesh
from tests.disks import no_file_larger_than


@flax.struct.dataclass
class State:
    """A train state as a run has it: custom nodes, named tuples, empty nodes, scalars."""

    step: jax.Array
    params: dict
    opt_state: tuple


OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))


def make_state(seed, mesh=None, width=64):
    params = {"a": {"w": jax.random.normal(jax.random.key(seed), (width, 8))}, "b": jnp.full((8,), seed, jnp.bfloat16)}
    state = State(jnp.int32(seed), params, OPTIMIZER.init(params))
    if mesh is None:
        return state
    spread = NamedSharding(mesh, PartitionSpec("fsdp"))
    return jax.tree.map(lambda x: jax.device_put(x, spread if x.ndim else NamedSharding(mesh, PartitionSpec())), state)


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_same(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype and a.sharding == b.sharding
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def save_steps(directory, steps, **kwargs):
    with CheckpointManager(directory, **kwargs) as manager:
        for step in steps:
            assert manager.save(step, make_state(step), {"position": 10 * step})


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def restore(directory, **kwargs):
    with CheckpointManager(directory, **kwargs) as manager:
        return manager.restore(abstract(make_state(0)))


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new" / "run") is None


@pytest.mark.parametrize("settings", [MeshSettings(fsdp=8), MeshSettings(data=4, fsdp=2)])
def test_state_and_data_position_come_back_into_any_shardings(tmp_path, settings):
    save_steps(tmp_path, [3])
    expected = make_state(3, make_mesh(settings))
    with CheckpointManager(tmp_path) as manager:
        state, data_state = manager.restore(abstract(expected))
    assert_same(state, expected)
    assert data_state == {"position": 30}


def test_arrays_of_the_data_state_come_back_and_one_that_lost_them_is_damaged(tmp_path, caplog):
    ids = np.arange(12, dtype=np.int32).reshape(3, 4)
    with CheckpointManager(tmp_path) as manager:
        for step in (1, 2):
            manager.save(step, make_state(step), {"rollout": {"ids": ids + step, "right": ids > 3, "text": "x"}})
        manager.wait()
        _, data_state = manager.restore(abstract(make_state(0)))
        np.testing.assert_equal(data_state, {"rollout": {"ids": ids + 2, "right": ids > 3, "text": "x"}})
        assert data_state["rollout"]["ids"].dtype == np.int32
        shutil.rmtree(tmp_path / "2" / "arrays")
        _, data_state = manager.restore(abstract(make_state(0)))
    np.testing.assert_array_equal(data_state["rollout"]["ids"], ids + 1)
    assert "2 is damaged and skipped (array 0 is missing)" in caplog.text


def test_the_newest_wins_and_old_ones_go(tmp_path):
    save_steps(tmp_path, [1, 2, 3, 4], keep=2)
    assert names(tmp_path) == ["3", "4"]
    assert restore(tmp_path)[1] == {"position": 40}


def test_saves_happen_at_multiples_when_forced_and_once_a_step(tmp_path):
    state = make_state(0)
    with CheckpointManager(tmp_path, save_every=5, keep=9) as manager:
        saved = [step for step in range(1, 13) if manager.save(step, state, {})]
        assert saved == [5, 10]
        assert manager.save(12, state, {}, force=True)
        assert not manager.save(12, state, {}, force=True)
        assert not manager.save(10, state, {})
        manager.wait()
        assert manager.steps == [5, 10, 12]


def test_a_state_may_be_donated_while_it_is_being_written(tmp_path):
    size = 2_000_000
    increment = jax.jit(lambda x: x + 1, donate_argnums=0)
    state = {"x": jnp.zeros(size)}
    with CheckpointManager(tmp_path, keep=9) as manager:
        for step in range(4):
            manager.save(step, state, {})
            state = jax.tree.map(increment, state)
        manager.wait()
        for step in range(4):
            stored = manager._orbax.restore(step)["state"]["x"]
            np.testing.assert_array_equal(stored, np.full(size, step, np.float32))


def test_restored_arrays_can_be_donated(tmp_path):
    state = make_state(1, make_mesh(MeshSettings(fsdp=8)))
    with CheckpointManager(tmp_path) as manager:
        manager.save(1, state, {})
        restored, _ = manager.restore(abstract(state))

    def pointers(tree):
        return [s.data.unsafe_buffer_pointer() for x in jax.tree.leaves(tree) for s in x.addressable_shards]

    before = pointers(restored.params)
    after = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)(restored.params)
    assert pointers(after) == before


def test_only_one_state_is_alive_after_a_restore(tmp_path):
    save_steps(tmp_path, [1])
    target = abstract(make_state(0))
    before = {id(array) for array in jax.live_arrays()}
    with CheckpointManager(tmp_path) as manager:
        state, _ = manager.restore(target)
    new = [array for array in jax.live_arrays() if id(array) not in before]
    assert sum(array.nbytes for array in new) == sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def damage_data(step_folder):
    for path in (step_folder / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:20])


def lose_manifest(step_folder):
    (step_folder / "state" / "manifest.ocdbt").unlink()


def empty_host(step_folder):
    (step_folder / "host" / "metadata").write_text("")


def lose_state(step_folder):
    for path in sorted((step_folder / "state").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (step_folder / "state").rmdir()


DAMAGES = [damage_data, lose_manifest, empty_host, lose_state]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_wins(tmp_path, caplog, damage):
    save_steps(tmp_path, [1, 2])
    damage(tmp_path / "2")
    with caplog.at_level(logging.WARNING), CheckpointManager(tmp_path) as manager:
        state, data_state = manager.restore(abstract(make_state(0)))
        assert f"checkpoint {tmp_path / '2'} is damaged and skipped" in caplog.text
        assert_same(state, make_state(1))
        assert data_state == {"position": 10}
        # The resumed run comes to step 2 again, and saves it.
        assert manager.save(2, make_state(2), {"position": 20})
        manager.wait()
        assert_same(manager.restore(abstract(make_state(0)))[0], make_state(2))
    assert names(tmp_path) == ["1", "2", "2.damaged"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, delete])
def test_whichever_file_is_damaged_a_restored_state_is_a_saved_one(tmp_path, damage):
    mesh = make_mesh(MeshSettings(fsdp=8))
    saved = {step: make_state(step, mesh) for step in (1, 2)}
    with CheckpointManager(tmp_path / "whole") as manager:
        for step, state in saved.items():
            manager.save(step, state, {"position": step})
    survived = set()
    files = [path for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()]
    for path in files:
        copy = tmp_path / "copy"
        shutil.copytree(tmp_path / "whole", copy)
        damage(copy / path.relative_to(tmp_path / "whole"))
        with CheckpointManager(copy) as manager:
            state, data_state = manager.restore(abstract(saved[1]))
        assert_same(state, saved[data_state["position"]])
        survived.add(data_state["position"])
        shutil.rmtree(copy)
    assert survived == {1, 2}  # some files matter, others are left over from writing


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_does_not_start_anew_where_all_checkpoints_are_damaged(tmp_path, damage):
    save_steps(tmp_path, [1])
    damage(tmp_path / "1")
    with pytest.raises(
        UserError, match=r"none of the checkpoints \[1\] in .* can be read.*move the folder away"
    ) as caught:
        restore(tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "1").is_dir()


def test_a_half_written_checkpoint_is_named_and_never_restored(tmp_path, caplog):
    save_steps(tmp_path, [1, 2])
    (tmp_path / "2").rename(tmp_path / "2.orbax-checkpoint-tmp")  # how it is called until it is complete
    with caplog.at_level(logging.WARNING):
        state, _ = restore(tmp_path)
    assert "2.orbax-checkpoint-tmp is incomplete" in caplog.text
    assert_same(state, make_state(1))


def test_another_config_is_refused_by_the_name_of_the_field(tmp_path):
    save_steps(tmp_path, [1], metadata={"optimizer": {"learning_rate": 1e-5, "betas": (0.9, 0.95)}})
    same = {"optimizer": {"learning_rate": 1e-5, "betas": (0.9, 0.95)}}
    other = {"optimizer": {"learning_rate": 2e-5, "betas": (0.9, 0.95)}}
    assert restore(tmp_path, metadata=same) is not None
    with pytest.raises(UserError, match=r"was made with optimizer\.learning_rate=1e-05, this run has 2e-05"):
        restore(tmp_path, metadata=other)
    assert restore(tmp_path, metadata=other, allow_changed=True) is not None


def test_another_shape_is_refused_by_the_name_of_the_array(tmp_path):
    save_steps(tmp_path, [1])
    with (
        pytest.raises(UserError, match=r"params\.a\.w is float32 \(64, 8\) there, and float32 \(32, 8\) in"),
        CheckpointManager(tmp_path) as manager,
    ):
        manager.restore(abstract(make_state(0, width=32)))
    assert (tmp_path / "1").is_dir()


def test_an_array_too_many_is_refused_by_its_name(tmp_path):
    save_steps(tmp_path, [1])
    state = make_state(0)
    state = state.replace(params={**state.params, "c": jnp.zeros(2)})
    with pytest.raises(UserError, match=r"params\.c is absent there"), CheckpointManager(tmp_path) as manager:
        manager.restore(abstract(state))


def test_another_dtype_is_refused_and_not_rounded(tmp_path):
    save_steps(tmp_path, [1])
    state = make_state(0)
    state.params["a"]["w"] = state.params["a"]["w"].astype(jnp.bfloat16)
    with (
        pytest.raises(UserError, match=r"w is float32 \(64, 8\) there, and bfloat16"),
        CheckpointManager(tmp_path) as m,
    ):
        m.restore(abstract(state))


# The best


def save_measured(directory, values, mode="min", keep=1, first=1):
    with CheckpointManager(directory, keep=keep, keep_best=KeepBest("eval_loss", mode)) as manager:
        for step, value in enumerate(values, start=first):
            manager.save(step, make_state(step), {}, metrics={} if value is None else {"eval_loss": value})
        manager.wait()
        return manager.best_step


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("min", [3.0, 1.0, 2.0, 1.0, 5.0], 2),  # the earlier of two equal ones
        ("max", [3.0, 1.0, 2.0, 3.0, 2.0], 1),
        ("min", [float("nan"), 4.0, None, float("nan"), None], 2),
    ],
)
def test_the_best_stays_besides_the_newest(tmp_path, mode, values, best):
    assert save_measured(tmp_path, values, mode) == best
    assert names(tmp_path) == [str(best), "5", "best.json"]
    assert json.loads((tmp_path / "best.json").read_text()) == {"step": best, "eval_loss": values[best - 1]}


def test_a_resumed_run_knows_the_best_from_the_checkpoints_alone(tmp_path):
    save_measured(tmp_path, [3.0, 1.0, 2.0])
    (tmp_path / "best.json").write_text('{"step": 77')
    assert save_measured(tmp_path, [4.0, 2.0], first=4) == 2
    assert names(tmp_path) == ["2", "5", "best.json"]
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 2
    assert save_measured(tmp_path, [0.5, 4.0], first=6) == 6
    assert names(tmp_path) == ["6", "7", "best.json"]


def test_only_a_better_value_improves(tmp_path):
    with CheckpointManager(tmp_path, keep_best=KeepBest("eval_loss", "min")) as manager:
        assert manager.improves({"eval_loss": 2.0}) and not manager.improves({"loss": 2.0})
        manager.save(1, make_state(1), {}, metrics={"eval_loss": 2.0})
        assert manager.improves({"eval_loss": 1.9})
        assert not any(manager.improves({"eval_loss": value}) for value in (2.0, 3.0, float("nan")))
    with CheckpointManager(tmp_path) as manager:
        assert not manager.improves({"eval_loss": 0.0}) and manager.best_step is None


# What the disk refuses (`tests/torture` fills a real one)


def test_a_refusing_disk_is_one_line_and_leaves_the_older_checkpoints(tmp_path, capfd):
    save_steps(tmp_path, [1, 2], keep=2)
    with pytest.raises(UserError) as caught, CheckpointManager(tmp_path, keep=2) as manager, no_file_larger_than(1000):
        manager.save(3, make_state(3), {})
        manager.wait()
    assert "the disk is full: file too large" in str(caught.value)
    assert "it goes on from step 2" in str(caught.value) and "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err
    assert restore(tmp_path, keep=2)[1] == {"position": 20}


def test_an_unwritable_workdir_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write checkpoints to .*file/run: .*choose a writable workdir"):
        CheckpointManager(tmp_path / "file" / "run")
