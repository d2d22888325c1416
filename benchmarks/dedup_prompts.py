"""Times the removal of near-duplicates among synthetic prompts, with planted ones to find.

    python -m benchmarks.dedup_prompts                      # 100,000 prompts of 30 to 120 words
    python -m benchmarks.dedup_prompts --prompts=20000
    python -m benchmarks.dedup_prompts --engine=beam        # on Apache Beam's DirectRunner

A tenth of the prompts are edited copies of others: one to three words are replaced. An edited copy is a duplicate if
the true Jaccard similarity of the two, by sets of n-grams, is at least the threshold; recall is the share of those that
are dropped, and false alarms are dropped prompts that are no edited copy. The stage runs in a process of its own, whose
time and peak memory are given, reading and writing of files included.
"""

import argparse
import functools
import json
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

from phi4r.curation.engines.beam import BeamSettings, run_beam
from phi4r.curation.engines.local import run_local
from phi4r.curation.folder import WriteSettings, write_results
from phi4r.curation.intake.duplicates import NearDuplicates, NearSettings
from phi4r.curation.intake.texts import comparable
from phi4r.curation.item import Item
from phi4r.curation.shards import ShardWriter, kept_files

_COPIES = 0.1
_WORDS = (30, 120)
_VOCABULARY = 20_000


def main() -> None:
    """Makes the prompts, runs the stage in a process of its own and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--engine", choices=("local", "beam"), default="local")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", help=argparse.SUPPRESS)  # the folder, in the process that is measured
    args = parser.parse_args()
    if args.stage:
        print(json.dumps(run_stage(pathlib.Path(args.stage), args.engine)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        similarities, megabytes = write_prompts(folder, args.prompts, args.seed)
        command = [sys.executable, "-m", "benchmarks.dedup_prompts", f"--stage={folder}", f"--engine={args.engine}"]
        started = time.perf_counter()
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        seconds = time.perf_counter() - started
    dropped, threshold = set(measured["dropped"]), NearSettings().threshold
    duplicates = {id for id, similarity in similarities.items() if similarity >= threshold}
    print(f"{args.prompts:,} prompts, {megabytes:.1f} MB, on the {args.engine} engine")
    print(f"  seconds        {seconds:.1f} ({args.prompts / seconds:,.0f} prompts/s)")
    print(f"  of a core      {measured['cpu_s']:.1f}")
    print(f"  peak memory    {measured['peak_mib']:,.0f} MiB")
    print(f"  recall         {len(dropped & duplicates) / len(duplicates):.2%} of {len(duplicates):,} copies")
    print(f"  below {threshold:g}      {len(dropped & (similarities.keys() - duplicates)):,} edited copies dropped")
    print(f"  false alarms   {len(dropped - similarities.keys()):,}")


def write_prompts(folder: pathlib.Path, num_prompts: int, seed: int) -> tuple[dict[str, float], float]:
    """Writes the prompts into shards; returns id -> true similarity of the edited copies, and the size in megabytes."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(_VOCABULARY)]
    num_copies = int(num_prompts * _COPIES)
    originals = [rng.choices(vocabulary, k=rng.randint(*_WORDS)) for _ in range(num_prompts - num_copies)]
    texts, similarities = [" ".join(words) for words in originals], {}
    for _ in range(num_copies):
        words = list(rng.choice(originals))
        text = " ".join(words)
        for _ in range(rng.randint(1, 3)):
            words[rng.randrange(len(words))] = rng.choice(vocabulary)
        similarities[f"{len(texts):08d}"] = true_similarity(text, " ".join(words))
        texts.append(" ".join(words))
    writer = ShardWriter(folder, 4096)
    for number, text in enumerate(texts):
        writer.write(Item(f"{number:08d}", text, source="synthetic"))
    writer.close()
    return similarities, sum(map(len, texts)) / 1e6


def true_similarity(one: str, other: str) -> float:
    """Returns the Jaccard similarity of the sets of n-grams that the stage estimates."""
    size = NearSettings().ngram
    first, second = (
        {text[i : i + size] for i in range(len(text) - size + 1)} for text in map(comparable, (one, other))
    )
    return len(first & second) / len(first | second)


def run_stage(folder: pathlib.Path, engine: str) -> dict:
    """Runs the stage over the shards of a folder; returns the ids that it dropped and the peak of memory."""
    scratch, out = folder / "scratch", folder / "out"
    scratch.mkdir()
    out.mkdir()
    run = functools.partial(run_beam, settings=BeamSettings()) if engine == "beam" else run_local
    outcomes = run(lambda: NearDuplicates(NearSettings()), kept_files(folder), scratch)
    write_results(outcomes, out, "near_duplicates", WriteSettings(4096, 5, stop=True))
    dropped = [json.loads(line)["item"]["id"] for line in (out / "dropped.jsonl").open(encoding="utf-8")]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"dropped": dropped, "peak_mib": used.ru_maxrss / 1024, "cpu_s": used.ru_utime + used.ru_stime}


if __name__ == "__main__":
    main()
