"""Brings parameters from the devices of all hosts to files, one tensor in host memory at a time."""

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from phi4r import hosts
from phi4r.checkpoint.hf_layout import Leaf
from phi4r.checkpoint.manifest import update_digest
from phi4r.checkpoint.pieces import Piece, tensor_pieces
from phi4r.metrics.progress import Progress


def write_gathered(
    write: Callable[[Piece, np.ndarray], None] | None,
    arrays: Mapping[str, jax.Array],
    leaves: Sequence[Leaf],
    dtypes: Mapping[str, np.dtype],
    *,
    writers: int,
) -> dict[str, str]:
    """Gathers every tensor on all hosts and lets one of them write it.

    A host that cannot write goes on gathering, as the others wait for it, and raises at the end.

    Args:
      write: takes pieces; None on hosts that never write.
      arrays: the leaves, by path.
      leaves: their places in tensors.
      dtypes: to write, by path.
      writers: how many of the hosts write, in turn.

    Returns:
      SHA-256 of every tensor, on every host.

    Raises:
      OSError: what writing raised on this host.
    """
    pieces = tensor_pieces(leaves, dtypes)
    digests: dict[str, str] = {}
    failure: OSError | None = None
    with Progress("save", total=len(pieces)) as progress:
        for number, (name, cuts) in enumerate(pieces.items()):
            mine = jax.process_index() == number % writers
            digest = hashlib.sha256()
            parts = dict.fromkeys((cut.leaf, cut.layer) for cut in cuts)
            for leaf, layer in parts:
                rows = _gathered(arrays[leaf.path], leaf, layer, dtypes[leaf.path])
                if not mine or failure is not None:
                    continue
                for cut in (cut for cut in cuts if cut.leaf is leaf):
                    begin = cut.first_row - leaf.first_row
                    own = rows[begin : begin + cut.matrix_shape[0]]
                    update_digest(digest, own)
                    try:
                        write(cut, own)
                    except OSError as error:
                        failure = error
            if mine:
                digests[name] = digest.hexdigest()
            progress.update(number + 1)
    gathered = dict(hosts.gather(list(digests.items())))
    if failure is not None:
        raise failure
    return gathered


def _gathered(array: jax.Array, leaf: Leaf, layer: int, dtype: np.dtype) -> np.ndarray:
    """Returns one layer of a leaf as rows of its tensor, whole and on every host."""
    part = _take(array, layer if leaf.stacked else None, leaf.inverse_order, dtype)
    return np.ascontiguousarray(hosts.to_host(part)).reshape(leaf.matrix_shape)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _take(array: jax.Array, layer: jax.Array | None, order: tuple[int, ...], dtype: np.dtype) -> jax.Array:
    """Returns the layer (all, if it is None) in the axes of the tensor, which devices transpose faster than hosts."""
    part = array if layer is None else jax.lax.dynamic_index_in_dim(array, layer, axis=0, keepdims=False)
    return part.transpose(order).astype(dtype)
