"""The process that compiles one program: `python -m phi4r.planning.worker`, started by `phi4r.planning.compile`.

It reads a request (JSON) from its input and writes lines of JSON to its output: `{"stage": ...}` on the way, and at the
end `{"result": ...}` or `{"error": ...}`. A compiler that crashes takes only this process with it.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time
from typing import Any

import jax

from phi4r.errors import UserError
from phi4r.model.config import ModelConfig
from phi4r.planning import cache
from phi4r.planning.buffers import Shapes, largest, read_buffers, temporaries_by_class, temporary_bytes
from phi4r.planning.devices import compiler_version, topology_devices
from phi4r.planning.experiment import Experiment, make_experiment
from phi4r.planning.flops import Flops, count_flops
from phi4r.planning.hlo import Module
from phi4r.planning.program import Program, shard_bytes
from phi4r.planning.programs import make_programs, row_length
from phi4r.planning.topologies import CHIPS, Topology, parse_topology
from phi4r.planning.traffic import measure_traffic

LARGEST_BUFFERS = 6
_OUTPUT = sys.stdout


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    try:
        answer = {"result": plan_program(**request)}
    except UserError as error:
        answer = {"error": str(error)}
    _say(answer)


def plan_program(
    sections: dict[str, Any], topology: str, program: str | None, folder: str, dump: str
) -> dict[str, Any] | list[str]:
    """Returns all that is known of one program; for no program the names of all, their sizes checked.

    Args:
      sections: the config.
      topology: its name.
      program: its name.
      folder: of the cache.
      dump: folder into which XLA writes what it compiled (the process was started so).
    """
    experiment, target = make_experiment(sections), parse_topology(topology)
    config, programs = make_programs(experiment, topology_devices(target))
    if program is None:
        return list(programs)
    if program not in programs:
        raise UserError(f"there is no program {program!r} in this experiment; take one of {', '.join(programs)}.")
    _say({"stage": "tracing"})
    made = programs[program]()
    with jax.set_mesh(made.mesh):
        traced = made.function.trace(*made.arguments, **made.static)
        lowered = traced.lower()
    devices = [device.id for device in made.mesh.devices.flat]
    name = cache.program_hash(lowered.as_text(), target.name, devices, compiler_version(target))
    compiled = cache.load(pathlib.Path(folder), name)
    cached = compiled is not None
    if compiled is None:
        _say({"stage": "compiling"})
        compiled = _compile(lowered, pathlib.Path(dump))
        cache.save(pathlib.Path(folder), name, compiled)
    return {
        "program": program,
        "hash": name,
        "cached": cached,
        "compile_s": compiled.seconds,
        "refusal": compiled.refusal,
        "sizes": compiled.sizes,
        **_read_program(made, traced.jaxpr, offload=experiment.settings.optimizer.offload),
        **_read_buffers(compiled, made, experiment, config),
        **_read_text(compiled, made, target),
    }


def _compile(lowered: Any, dump: pathlib.Path) -> cache.Compiled:
    """Compiles, and collects what the compiler wrote about it."""
    started = time.monotonic()
    try:
        compiled = lowered.compile()
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        return cache.Compiled({}, time.monotonic() - started, str(error).strip(), *_dumped(dump))
    seconds = time.monotonic() - started
    stats = compiled.memory_analysis()
    sizes = {
        "argument": stats.argument_size_in_bytes,
        "output": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
        "temporary": stats.temp_size_in_bytes,
        "host": stats.host_argument_size_in_bytes + stats.host_temp_size_in_bytes,
    }
    text, buffers = _dumped(dump)
    return cache.Compiled(sizes, seconds, None, text or compiled.as_text(), buffers)


def _dumped(dump: pathlib.Path) -> tuple[str, str]:
    """Returns the compiled text and the buffer assignment of the largest program in XLA's dump; empty if missing."""
    texts = sorted(dump.glob("*after_optimizations.txt"), key=lambda path: path.stat().st_size)
    if not texts:
        return "", ""
    buffers = texts[-1].with_name(texts[-1].name.removesuffix(".txt") + "-buffer-assignment.txt")
    text = texts[-1].read_text(errors="replace")
    return text, buffers.read_text(errors="replace") if buffers.exists() else ""


def _read_program(made: Program, jaxpr: Any, *, offload: bool) -> dict[str, Any]:
    """Returns what is known of a program before it is compiled."""
    flops = count_flops(jaxpr, visits=made.visits, page_share=made.page_share)
    return {
        "title": made.title,
        "arguments": {kind: shard_bytes(tree) for kind, tree in made.memory.items()},
        "resident": {kind: shard_bytes(tree) for kind, tree in made.resident.items()},
        "resident_host": shard_bytes(made.resident, on_host=True),
        "calls": made.calls,
        "iterations": made.iterations,
        "steps": made.steps,
        "num_tokens": made.num_tokens,
        "model_flops": made.model_flops,
        "flops": flops.once + flops.products * made.product_flops,
        "flops_iteration": flops.iteration,
        "notes": _notes(made, flops, offload=offload),
    }


def _notes(made: Program, flops: Flops, *, offload: bool) -> list[str]:
    """Returns what the figures leave out."""
    notes = [*made.notes, *(f"the kernel {name} is not in the FLOPs." for name in sorted(flops.unknown))]
    optimizer = {**made.memory, **made.resident}["optimizer"]
    if offload and not shard_bytes(optimizer, on_host=True):
        notes.append("this compiler does not know the memory of the host: optimizer.offload is planned without.")
    return notes


def _read_buffers(
    compiled: cache.Compiled, made: Program, experiment: Experiment, config: ModelConfig
) -> dict[str, Any]:
    """Returns temporaries by class and the largest of them, as far as the compiler reported."""
    row_tokens = row_length(experiment) // made.mesh.shape["context"]
    shapes = Shapes(config.num_layers, row_tokens, made.trains)
    buffers = read_buffers(compiled.buffers)
    # The report is asked and not `memory_analysis`, whose sum counts more than the memory that is taken, on TPUs.
    total = temporary_bytes(compiled.buffers) or compiled.sizes.get("temporary", 0)
    classes = temporaries_by_class(buffers, total, shapes)
    return {
        "temporaries": {kind: size for kind, size in classes.items() if size},
        "buffers": largest(buffers, LARGEST_BUFFERS),
    }


def _read_text(compiled: cache.Compiled, made: Program, target: Topology) -> dict[str, Any]:
    """Returns the traffic of a call and of a pass of its loop; None where there is no text."""
    if not compiled.text:
        return {"traffic": None, "traffic_iteration": None}
    per_host = target.shape[-1] if CHIPS[target.chip].platform == "cuda" else target.num_devices
    hosts = [device.id // per_host for device in made.mesh.devices.flat]
    once, iteration = measure_traffic(Module(compiled.text), hosts, visits=made.visits, page_share=made.page_share)
    return {"traffic": dataclasses.asdict(once), "traffic_iteration": dataclasses.asdict(iteration)}


def _say(message: dict[str, Any]) -> None:
    """Writes one line of JSON for the parent."""
    print(json.dumps(message), file=_OUTPUT, flush=True)


if __name__ == "__main__":
    # Compilers print to the standard output too: what is for the parent goes to a descriptor of its own.
    _OUTPUT = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    main()
