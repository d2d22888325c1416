"""The distribution of the weak models' agreement, with the band of teachability, as a picture."""

import itertools
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phi4r.curation.teaching.teachability import NAME
from phi4r.data.records import atomic_path, parse_row
from phi4r.errors import UserError

_NUM_BINS = 20
_MOST_VALUES = 33  # that have a bar each; as many as 32 samples can give
_FIGURE_FORMATS = (".png", ".svg")


def read_agreements(paths: Sequence[str | os.PathLike]) -> list[float]:
    """Reads the agreement of items that teachability has judged, kept and dropped ones.

    Args:
      paths: JSONL files of items, or of outcomes that hold their item under "item"; an item that teachability has not
        reached the weak models with is left out.

    Raises:
      UserError: for a file that cannot be read, or where no item has an agreement.
    """
    agreements = [agreement for path in paths for agreement in _agreements(pathlib.Path(path))]
    if not agreements:
        names = ", ".join(str(path) for path in paths)
        raise UserError(f"no item in {names} has an agreement; give the files of the stage {NAME}.")
    return agreements


def write_agreement_plot(
    agreements: Sequence[float], path: str | os.PathLike, *, low: float, high: float, title: str = "Teachability"
) -> None:
    """Writes a histogram of agreements, in which the band from `low` to `high` is shaded.

    Args:
      agreements: of the items, each from 0 to 1.
      path: of the picture, .png or .svg.
      low: lower end of the band.
      high: upper end of the band.
      title: above the axes.

    Raises:
      UserError: for another kind of file, or one that cannot be written.
    """
    from phi4r.evals.reporting.style import COLOURS, png_bytes, scale_x_percent, styled_axes, svg_bytes

    path = pathlib.Path(path)
    if path.suffix not in _FIGURE_FORMATS:
        raise UserError(f"{path} must end with {' or '.join(_FIGURE_FORMATS)}.")
    num_kept = sum(low <= agreement <= high for agreement in agreements)
    title = f"{title}: {num_kept} of {len(agreements)} from {low:.0%} to {high:.0%}"
    with styled_axes(title, "agreement of the weak models with the truth", "prompts") as (figure, axes):
        axes.axvspan(low, high, color=COLOURS[2], alpha=0.15, linewidth=0, zorder=0)
        bars = binned(agreements)
        gap = min((b - a for a, b in itertools.pairwise(bars)), default=1 / _NUM_BINS)
        axes.bar(list(bars), list(bars.values()), width=0.8 * min(gap, 1 / _NUM_BINS), color=COLOURS[0])
        axes.set_xlim(-0.02, 1.02)
        scale_x_percent(axes)
        picture = svg_bytes(figure) if path.suffix == ".svg" else png_bytes(figure)
    with atomic_path(path) as partial:
        partial.write_bytes(picture)


def binned(agreements: Iterable[float]) -> dict[float, int]:
    """Returns how many agreements there are of each value, or where these are many, nearest to 0%, 5%, ... 100%."""
    counts = Counter(round(agreement, 6) for agreement in agreements)
    if len(counts) <= _MOST_VALUES:
        return dict(sorted(counts.items()))
    places = Counter(round(agreement * _NUM_BINS) for agreement in counts.elements())
    return {place / _NUM_BINS: places[place] for place in range(_NUM_BINS + 1)}


def _agreements(path: pathlib.Path) -> Iterable[float]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; give the files of the stage {NAME}.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            row = parse_row(line, where=f"{path}:{number}")
            agreement = _noted(row.get("item", row)).get("agreement")
            if isinstance(agreement, int | float):
                yield float(agreement)


def _noted(item: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = item.get("meta") if isinstance(item, Mapping) else None
    noted = meta.get(NAME) if isinstance(meta, Mapping) else None
    return noted if isinstance(noted, Mapping) else {}
