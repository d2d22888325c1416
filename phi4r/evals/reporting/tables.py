"""Table: one table as HTML for the page, and as Markdown and CSV for papers and programs."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

from phi4r.evals.reporting import markup


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
      name: of its files.
      header: names of the columns; texts or `markup.Cell`s.
      rows: of texts, numbers or `markup.Cell`s.
      caption: what the numbers are, in a sentence or two.
      records: the same for programs, one number a column: column -> value, None for nothing. Where there are none, CSV
        has the cells.
    """

    name: str
    header: Sequence[Any]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    records: Sequence[Mapping[str, Any]] = ()

    def html(self) -> str:
        """Returns the table for the page."""
        return markup.table(self.header, self.rows, caption=self.caption)

    def markdown(self) -> str:
        """Returns the table in Markdown, its caption below it; what is small under a value follows it in brackets."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        text = "".join("| " + " | ".join(map(_markdown_cell, line)) + " |\n" for line in lines)
        return f"{text}\n{self.caption}\n" if self.caption else text

    def csv(self) -> str:
        """Returns the records, or else header and rows, as comma-separated values; shares are fractions in records."""
        buffer = io.StringIO()
        if self.records:
            columns = dict.fromkeys(column for record in self.records for column in record)
            writer = csv.DictWriter(buffer, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows({column: _plain(value) for column, value in record.items()} for record in self.records)
        else:
            lines = [list(map(str, line)) for line in (self.header, *self.rows)]
            csv.writer(buffer, lineterminator="\n").writerows(lines)
        return buffer.getvalue()


def percent(share: float | None) -> str:
    """Returns a share in percent with one digit; nothing for None."""
    return "" if share is None else f"{100 * share:.1f}"


def spread(mean: str, sd: str) -> str:
    """Returns a mean with the standard deviation over runs in brackets, if there is one."""
    return f"{mean} ({sd})" if sd else mean


def _plain(value: Any) -> Any:
    """Returns a value for CSV: no number has more than six digits that count."""
    return f"{value:.6g}" if isinstance(value, float) else value


def _markdown_cell(cell: Any) -> str:
    """Returns a cell that stays in its column, and in which HTML is text."""
    text = " ".join(str(cell).split())
    for old, new in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;")):
        text = text.replace(old, new)
    return text
