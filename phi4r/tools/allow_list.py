"""Writes the allow-list of decontamination: 13-grams of benchmarks that are common in a corpus of all kinds of text.

"what is the probability that at least one of the two dice shows a six" stands in a benchmark and in many other places,
so a prompt that has it need not know the benchmark. Read the list before `stages.decontamination.allow_list` names it:
a corpus of the web may hold copies of the benchmarks.

  phi4r allow-list data/web.jsonl --benchmarks aime_2025 math_500 --fields=text --source-field=site --output=common.txt
"""

import argparse
import pathlib

from phi4r.curation.overlap.common_ngrams import common_ngrams, corpus_texts, write_allow_list
from phi4r.curation.overlap.decontamination import Decontamination, DecontaminationSettings
from phi4r.metrics.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `phi4r allow-list`."""
    parser.add_argument("corpus", help="file, folder or tfds: data set of texts; rows are read one after the other")
    parser.add_argument(
        "--benchmarks",
        metavar="SPEC",
        nargs="+",
        required=True,
        help="what is protected, as in config.stages.decontamination.benchmarks: task specs, or file:PATH?fields=FIELD",
    )
    parser.add_argument("--fields", default="", help="of a row that hold text, with commas; default all text of a row")
    parser.add_argument(
        "--source-field",
        default="",
        help="that names where a row comes from, as its site: copies at one source then count once",
    )
    parser.add_argument(
        "--least",
        type=int,
        default=10,
        help="texts, or sources, that have an n-gram which is called common; not in the paper (default %(default)s)",
    )
    parser.add_argument(
        "--ngram", type=int, default=13, help="words of an n-gram, stages.decontamination.long_ngram (default 13)"
    )
    parser.add_argument("--output", type=pathlib.Path, required=True, help="text file to write, one n-gram a line")


def run(args: argparse.Namespace) -> None:
    """Counts, and writes the list.

    Raises:
      UserError: for benchmarks or a corpus that cannot be read, or an output that cannot be written.
    """
    settings = DecontaminationSettings(benchmarks=tuple(args.benchmarks), long_ngram=args.ngram)
    index = Decontamination(settings).index()
    fields = [field for field in args.fields.split(",") if field]
    num_texts = 0
    with Progress("allow-list", total=None) as progress:

        def counted():
            nonlocal num_texts
            for text in corpus_texts(args.corpus, fields=fields, source_field=args.source_field):
                num_texts += 1
                progress.update(num_texts)
                yield text

        common = common_ngrams(index, counted(), least=args.least)
    write_allow_list(args.output, common)
    print(f"wrote {args.output}: {len(common):,} of {len(index.long):,} {args.ngram}-grams, by {num_texts:,} texts")
