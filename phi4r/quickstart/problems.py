"""The problems of a quickstart: curation makes what is trained on, and the tasks themselves what is asked.

    WORKDIR/problems/00-seeds  01-solutions  02-clusters  03-output   stages of curation (`phi4r.curation.pipeline`)
    WORKDIR/problems/data/     quickstart_sft and quickstart_rl, by name, with the data card README.md
    WORKDIR/problems/test.jsonl, dev.jsonl                            what models are evaluated on, and watched by

Nothing is decontaminated: the splits of a generated task are disjoint by construction, and n-grams cannot tell its
problems apart. They are compared without punctuation, where "chain 7 +3 *9 =" and "chain 7 -3 +9 =" are the same words.
"""

import os
import pathlib
from typing import Any
from urllib.parse import parse_qsl

import phi4r.settings
from phi4r.curation.pipeline import CurateSettings, run_curate
from phi4r.data.records import write_jsonl
from phi4r.evals.specs import load_task, solver_of
from phi4r.quickstart.settings import ProblemSettings

SFT, RL = "sft", "rl"
_LICENCE = "Apache-2.0"  # of this program, which writes them


def write_problems(settings: ProblemSettings, folder: str | os.PathLike, *, seed: int) -> None:
    """Writes the data sets of SFT and GRPO, and the files to ask, where there are specs for them.

    Args:
      settings: the specs.
      folder: for all of it; stages of curation that are finished there are not run again.
      seed: of specs that name none.

    Raises:
      UserError: for a bad spec, or one for SFT whose task has no solver.
    """
    folder = pathlib.Path(folder)
    solver_of(settings.sft)
    run_curate(phi4r.settings.build(CurateSettings, curation_of(settings, seed=seed), where="problems"), folder)
    for name, spec in {"test": settings.test, "dev": settings.dev}.items():
        if spec:
            write_jsonl(folder / f"{name}.jsonl", load_task(_seeded(spec, seed)).problems)


def curation_of(settings: ProblemSettings, *, seed: int) -> dict[str, Any]:
    """Returns the config of the curation, as a file of configs/ would hold it."""
    specs = {name: _seeded(spec, seed) for name, spec in ((SFT, settings.sft), (RL, settings.rl)) if spec}
    sources = {
        name: {"place": f"task:{spec}", "licence": _LICENCE, "domain": _kind(spec)} for name, spec in specs.items()
    }
    return {
        "order": ("seeds", "solutions", "clusters", "output"),
        "seed": seed,
        "on_error": "stop",
        "stages": {
            "seeds": {"sources": sources},
            "solutions": {"sources": (SFT,)},
            # The tasks' own splits hold out what is not trained on.
            "output": {"data": {"name": "quickstart", "problem_sources": (RL,) if settings.rl else ()}},
        },
    }


def _kind(spec: str) -> str:
    """Returns the name of a task, without its parameters."""
    return spec.partition("?")[0].partition(":")[0]


def _seeded(spec: str, seed: int) -> str:
    """Returns the spec with a seed, if it names none."""
    path, _, query = spec.partition("?")
    return spec if "seed" in dict(parse_qsl(query)) else f"{path}?{query}&seed={seed}".replace("?&", "?")
