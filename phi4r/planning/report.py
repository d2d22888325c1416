"""A plan in words for a terminal, and as JSON for scripts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from phi4r.planning.experiment import Experiment
from phi4r.planning.plan import LABEL, ProgramPlan
from phi4r.planning.programs import has_model, model_config
from phi4r.planning.search import Change
from phi4r.planning.topologies import GIB, Topology

WIDTH = 100


def head_text(experiment: Experiment, topology: Topology, limit_gib: float) -> str:
    """Returns what is planned, in a few lines."""
    settings = experiment.settings
    mesh = ", ".join(f"{name}={size}" for name, size in dataclasses.asdict(settings.mesh).items())
    config = model_config(experiment)
    model = f"{config.num_params:,} parameters"
    if not has_model(experiment):
        model += f", the shape of Phi-4-reasoning (there is no model in {settings.init_from})"
    return (
        f"{experiment.kind} on {topology.name}: {topology.num_devices} x {topology.chip}, {limit_gib:.1f} GiB each\n"
        f"model       {model}\n"
        f"settings    mesh {mesh}; {_settings_text(experiment)}\n"
        f"All figures below: {LABEL}. Times are those of a roofline, which no run can beat.\n"
    )


def _settings_text(experiment: Experiment) -> str:
    """Returns the settings that decide about memory, as their flags are called."""
    settings = experiment.settings
    names = {"num_microbatches": settings.num_microbatches, "model.remat": settings.model.remat}
    if experiment.kind == "grpo":
        names |= {
            f"sampler.{name}": getattr(settings.sampler, name) for name in ("tensor", "num_slots", "cache_tokens")
        }
    if settings.lora is not None:
        names |= {f"lora.{name}": getattr(settings.lora, name) for name in ("rank", "quantize_base")}
    return ", ".join(f"{name}={value}" for name, value in names.items())


def program_text(plan: ProgramPlan) -> str:
    """Returns what is known of one program."""
    total = "?" if plan.total is None else f"{plan.total / GIB:.1f}"
    head = f"{plan.name}: {plan.title}"
    verdict = f"{plan.verdict.upper()}: {total} of {plan.limit / GIB:.1f} GiB"
    lines = [f"{head:<{WIDTH - len(verdict)}}{verdict}"]
    lines.append("  memory    " + _memory_text(plan))
    if plan.refusal is not None:
        lines.append(f"  compiler  {_first_line(plan.refusal)}")
    if not plan.fits:
        lines += [f"  largest   {b['number']} x {b['size'] / GIB:.2f} GiB  {b['shape']}" for b in plan.buffers]
    lines.append(f"  FLOPs     model {plan.model_flops:.3g}, executed {plan.executed_flops:.3g}")
    lines.append("  bytes     " + _traffic_text(plan))
    if roofline := _roofline_text(plan):
        lines.append("  roofline  " + roofline)
    lines += [f"  note      {note}" for note in plan.notes]
    lines.append(f"  compiler  {plan.compile_s:.0f} s{' (from the cache)' if plan.cached else ''}; {LABEL}")
    return "\n".join(lines) + "\n"


def step_text(plans: Sequence[ProgramPlan]) -> str:
    """Returns the sum over the programs of a training step; empty where it is not known."""
    step = step_figures(plans)
    if step is None or len(plans) < 2:
        return ""
    parts = ", ".join(f"{name} {_seconds(value)}" for name, value in step["parts_s"].items())
    return f"training step: at least {_seconds(step['step_s'])} ({parts}); {LABEL}\n"


def step_figures(plans: Sequence[ProgramPlan]) -> dict[str, Any] | None:
    """Returns the least seconds of a training step, by program; None where one is not known."""
    parts = {plan.name: plan.roofline.call_s for plan in plans if plan.calls}
    if not parts or None in parts.values():
        return None
    parts = {plan.name: plan.calls * parts[plan.name] for plan in plans if plan.calls}
    return {"step_s": sum(parts.values()), "parts_s": parts}


def change_text(change: Change | None, tried: int) -> str:
    """Returns the smallest change that fits, or that none was found."""
    if change is None and not tried:
        return "no other micro-batches, remat or mesh on these devices can be expected to fit: take more devices.\n"
    if change is None:
        return f"no change that fits was found in {tried} compilations; take more devices, or a larger --search.\n"
    flags = " ".join(f"--config.{name}={value}" for name, value in change.settings.items())
    return f"smallest change found that fits ({LABEL}): {flags}\n"


def to_json(
    experiment: Experiment,
    topology: Topology,
    plans: Sequence[ProgramPlan],
    change: Change | None = None,
) -> dict[str, Any]:
    """Returns a plan as plain data."""
    return {
        "label": LABEL,
        "experiment": experiment.kind,
        "topology": topology.name,
        "num_devices": topology.num_devices,
        "mesh": dataclasses.asdict(experiment.settings.mesh),
        "model_found": has_model(experiment),
        "fits": all(plan.fits for plan in plans),
        "programs": {plan.name: _program_json(plan) for plan in plans},
        "step": step_figures(plans),
        "change": None if change is None else change.settings,
    }


def _program_json(plan: ProgramPlan) -> dict[str, Any]:
    """Returns one program as plain data."""
    values = dataclasses.asdict(plan)
    del values["name"]
    values["roofline"] |= {"call_s": plan.roofline.call_s, "bound": plan.roofline.bound}
    return {
        "label": LABEL,
        **values,
        "fits": plan.fits,
        "verdict": plan.verdict,
        "tokens_per_s": plan.tokens_per_s,
    }


def _memory_text(plan: ProgramPlan) -> str:
    """Returns the classes of memory that take more than a hundredth of a GiB."""
    shown = {kind: size for kind, size in plan.memory.items() if size >= 0.005 * GIB} or plan.memory
    text = ", ".join(f"{kind} {size / GIB:.2f}" for kind, size in shown.items())
    host = f"; on the host {plan.host / GIB:.2f}" if plan.host else ""
    return f"GiB a device: {text}{host}"


def _traffic_text(plan: ProgramPlan) -> str:
    """Returns what a device moves in a call."""
    traffic = plan.traffic
    if traffic is None:
        return "not known: the compiler gave no text"
    kinds = ", ".join(f"{kind} {_amount(size)}" for kind, size in sorted(traffic["by_kind"].items()))
    network = f", of it {_amount(traffic['network'])} to other hosts" if traffic["network"] else ""
    between = f"; between devices {_amount(traffic['links'])}{network} ({kinds})" if traffic["links"] else ""
    return f"a device: memory {_amount(traffic['memory'])}{between}"


def _roofline_text(plan: ProgramPlan) -> str:
    """Returns the least times, and the speed that they allow."""
    roofline = plan.roofline
    if roofline.call_s is None:
        return ""
    names = {"compute": roofline.compute_s, "memory": roofline.memory_s, "interconnect": roofline.interconnect_s}
    times = ", ".join(f"{name} {_seconds(seconds)}" for name, seconds in names.items() if seconds is not None)
    speed = f"; at most {plan.tokens_per_s:,.0f} tokens/s" if plan.tokens_per_s else ""
    mfu = f", MFU {plan.mfu:.0%}" if plan.mfu and plan.model_flops else ""
    each = f", {_seconds(roofline.call_s / plan.steps)} a decode step" if plan.steps else ""
    often = f", {plan.calls:,} calls a training step" if plan.calls > 1 else ""
    return f"{times} -> at least {_seconds(roofline.call_s)}{each}{speed}{mfu}{often}"


def _seconds(value: float) -> str:
    """Returns a time with a fitting unit."""
    return f"{value:,.1f} s" if value >= 1 else f"{value * 1e3:.1f} ms"


def _amount(size: float) -> str:
    """Returns bytes with a fitting decimal unit."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


def _first_line(text: str) -> str:
    """Returns the first line of a compiler's message that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "hbm" in line.lower()), lines[0] if lines else "no message")[:300]
