"""What `--reasoning` changes in the files of a base model: context, generation defaults, tokenizer, template."""

import pathlib
from collections.abc import Mapping
from typing import Any

from phi4r.checkpoint.hf_files import CONFIG_FILE, GENERATION_FILE, read_json, write_json
from phi4r.errors import UserError
from phi4r.text.reasoning import write_reasoning_tokenizer

GENERATION_DEFAULTS = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 50}  # those of the release


def reasoning_config(hf_config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns config.json with rope theta and context doubled: 250k and 16k become 500k and 32k (section 3).

    Raises:
      UserError: for a model whose context is extended by scaled frequencies already.
    """
    values = dict(hf_config)
    rope = dict(values.get("rope_parameters") or {})
    scaling = {**(values.get("rope_scaling") or {}), **rope}
    kind = "longrope" if "long_factor" in scaling else scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        raise UserError(f"this model has its context extended by {kind}; convert it without --reasoning.")
    if rope:
        values["rope_parameters"] = rope
    for section in (values, rope):
        if "rope_theta" in section:
            section["rope_theta"] *= 2
    if "rope_theta" not in values and "rope_theta" not in rope:
        raise UserError("config.json has no rope_theta to double; write the model's value into it.")
    values["max_position_embeddings"] *= 2
    if "original_max_position_embeddings" in values:
        values["original_max_position_embeddings"] = values["max_position_embeddings"]
    return values


def write_reasoning_files(source: pathlib.Path, folder: pathlib.Path, *, system_message: str | None) -> None:
    """Rewrites the files that `folder` carries from `source`: config, generation defaults, tokenizer and template."""
    config_path, generation_path = folder / CONFIG_FILE, folder / GENERATION_FILE
    write_json(config_path, reasoning_config(read_json(config_path)))
    generation = read_json(generation_path) if generation_path.is_file() else {}
    write_json(generation_path, {**generation, **GENERATION_DEFAULTS})
    (folder / "chat_template.json").unlink(missing_ok=True)  # an older place of the template, which is replaced
    write_reasoning_tokenizer(source, folder, system_message=system_message)
