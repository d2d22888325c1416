"""What a run keeps on the host beside its train state: JSON values, with numpy arrays among them.

Arrays are stored apart from the JSON, where one of a few hundred megabytes would be text of several times that size.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_ARRAY = "$array"  # the one key of what stands for an array in the JSON


def split_arrays(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Returns a tree of mappings and lists with a name in place of each array, and the arrays by name.

    Numbers of numpy become those of JSON, and tuples lists.
    """
    arrays: dict[str, np.ndarray] = {}

    def part(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            name = str(len(arrays))
            arrays[name] = value
            return {_ARRAY: name}
        if isinstance(value, Mapping):
            return {key: part(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [part(item) for item in value]
        return value.item() if isinstance(value, np.generic) else value

    return part(tree), arrays


def join_arrays(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Returns the tree of which `split_arrays` made these two.

    Raises:
      LookupError: if an array is missing.
    """
    if isinstance(tree, Mapping):
        if tree.keys() == {_ARRAY}:
            if tree[_ARRAY] not in arrays:
                raise LookupError(f"array {tree[_ARRAY]} is missing")
            return arrays[tree[_ARRAY]]
        return {key: join_arrays(item, arrays) for key, item in tree.items()}
    return [join_arrays(item, arrays) for item in tree] if isinstance(tree, list) else tree
