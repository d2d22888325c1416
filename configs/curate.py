"""Curation: from raw prompts to the training set of SFT and the problems of RL (section 2 of arXiv 2504.21318).

The paper describes every stage and prints none of its thresholds, prompts or rubrics, so every number here is ours.

    seeds            prompts from data sets, under names, each with its licence; into a database of seeds (section 2.1)
    duplicates       the same prompt, and nearly the same one, by MinHash
    screens          language, length, quality
    teachability     at the edge of the base model's ability: a strong model's plurality is the truth, and weak models
                     agree with it sometimes (section 2.1)
    rubric           language models grade the number and the complexity of the reasoning steps
    rewriting        open problems become ones with a short answer (figure 3)
    traces           thought and solution of a teacher, at medium effort first, then at high effort (section 2.2)
    safety           answered under guidelines that training does not see (section 2.2)
    decontamination  against all benchmarks, by the algorithm of the Phi-4 report; at the end once more
    clusters         domain x source x quality, each with a weight, which is its epochs
    held_out         a share of the prompts is kept from training, and training items with their texts are dropped
    output           data sets for SFT and RL, with a data card

The paper ends at 1.4M prompts with 8.3B tokens of traces. Here, a server asked for 64 answers at a time at 50 tokens a
second each gives 3,200 tokens a second: 1,000 prompts, 8 answers of 500 tokens of 2 models and 4 traces of 6,000 tokens
take 32M tokens, under 3 hours.

    phi4r curate --config=configs/curate.py --workdir=runs/curate
    phi4r curate --config=configs/curate.py --workdir=runs/curate --until=screens
    phi4r curate --config=configs/curate.py --workdir=runs/curate \
        --config.generators.strong.endpoint.base_url=http://strong:8000/v1

Seeds lie in data/, and the guidelines of safety in data/safety_guidelines.txt; other sources are another section
config.stages.seeds.sources in a copy of this file. On a cluster the same stages run on Apache Beam (pip install -e
.[beam]), with equal results:

    phi4r curate --config=configs/curate.py --workdir=runs/curate --config.engine=beam
    phi4r curate --config=configs/curate.py --workdir=runs/curate --config.engine=beam \
        --config.beam.runner=FlinkRunner --config.beam.options="('--flink_master=flink:8081',)" \
        --config.beam.scratch=/shared/scratch

The argument `tiny` curates generated puzzles, without any model, in seconds:

    python -m phi4r.main --config=configs/curate.py:tiny --workdir=runs/curate_tiny
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "paper") -> ConfigDict:
    """Returns the config; `size` is "paper" or "tiny"."""
    return common.of_size(size, {"paper": paper, "tiny": tiny})


def paper() -> ConfigDict:
    """All stages, on two public sets of mathematics and what a laboratory has besides."""
    config = ConfigDict()
    config.experiment = "curate"
    config.seed = 0
    config.order = (
        "seeds",
        "exact_duplicates",
        "near_duplicates",
        "screens",
        "decontamination",  # before anything is asked: what is dropped costs nothing
        "rewriting",
        "teachability",
        "rubric",
        "traces",
        "safety",
        "final_decontamination",  # of rewritten prompts and traces
        "clusters",
        "held_out",
        "output",
    )
    config.engine = "local"
    config.beam = {"runner": "DirectRunner", "options": (), "scratch": ""}
    config.shard_size = 4096  # not in the paper
    config.num_examples = 5  # not in the paper
    config.on_error = "quarantine"
    config.only = ""
    config.until = ""
    config.generators = generators()
    config.stages = ConfigDict()
    config.stages.seeds = {
        "sources": {
            "gsm8k": {
                "place": "data/gsm8k/train.jsonl",
                "licence": "MIT",
                "domain": "math",
                "fields": {"prompt": "question", "solution": "answer"},
                "answer_after": "####",
                "limit": 0,  # all
            },
            "math": {
                "place": "data/math/train.jsonl",
                "licence": "MIT",
                "domain": "math",
                "fields": {"prompt": "problem"},
                "answer_after": "",
                "limit": 0,
            },
        },
        "allowed_licences": (),  # all that are not denied
        "denied_licences": ("*-NC*", "*-ND*", "proprietary*", "unknown"),  # not in the paper
        "database": "",
    }
    config.stages.exact_duplicates = {"prefer": ()}
    config.stages.near_duplicates = {
        "prefer": (),
        "threshold": 0.8,  # not in the paper
        "ngram": 5,  # not in the paper
        "num_values": 126,  # not in the paper
        "num_bands": 21,  # not in the paper
        "seed": 1,
    }
    config.stages.screens = screens()
    config.stages.decontamination = {
        # What the paper lists and has no task here goes in as its file, as "file:data/drop.jsonl?fields=passage".
        "benchmarks": (
            "aime_2025",
            "aime_2024",
            "math_500",
            "gsm8k",
            "omni_math",
            "gpqa_diamond",
            "livecodebench",
            "humaneval_plus",
            "ifeval",
            "mmlu_pro",
        ),
        "fields": ("prompt",),
        "with_solutions": False,  # not in the paper
        "long_ngram": 13,
        "short_ngram": 7,
        "contaminated_ratio": 0.5,  # not in the paper
        "partial_ratio": 0.1,  # not in the paper
        "partial": "keep",  # not in the paper
        "allow_list": "",
        "template_texts": 10,  # not in the paper
        "template_share": 0.05,  # not in the paper
        "batch_size": 1024,
    }
    config.stages.final_decontamination = {
        **config.stages.decontamination.to_dict(),
        "fields": ("prompt", "thought", "solution"),
    }
    config.stages.rewriting = {
        "rewriter": "strong",
        "solvers": ("strong",),
        "samples": 4,  # not in the paper
        "min_agreement": 0.75,  # not in the paper
        "max_attempts": 3,  # not in the paper
        "max_answer_length": 64,  # not in the paper
        "answers": "math",
        "batch_size": 64,
    }
    config.stages.teachability = {
        "strong": "strong",
        "weak": ("weak",),  # the paper asks Phi-4 and GPT-4o
        "strong_samples": 8,  # not in the paper
        "weak_samples": 8,  # not in the paper
        "min_strong_agreement": 0.5,  # not in the paper
        "low": 0.1,  # not in the paper
        "high": 0.8,  # not in the paper
        "min_gap": 0.0,  # not in the paper
        "min_steps": 2,  # not in the paper
        "answers": "math",
        "use_gold": False,
        "batch_size": 64,
    }
    config.stages.rubric = {
        "graders": ("strong",),
        "samples": 1,  # not in the paper
        "max_attempts": 3,  # not in the paper
        "min_steps": 3.0,  # not in the paper
        "min_complexity": 2.0,  # not in the paper
        "max_difference": 4.0,  # not in the paper
        "batch_size": 64,
    }
    config.stages.traces = {
        "levels": (
            {"name": "medium", "teacher": "teacher_medium", "samples": 4},  # samples: not in the paper
            {"name": "high", "teacher": "teacher_high", "samples": 4},  # samples: not in the paper
        ),
        "escalate": True,  # not in the paper, which took medium effort first, and later high effort for all
        "select": "first",  # not in the paper
        "require_correct": True,  # not in the paper
        "answers": "math",
        "screens": trace_screens(),
        "batch_size": 32,
    }
    config.stages.safety = {
        "teacher": "teacher_medium",
        "guidelines_file": "data/safety_guidelines.txt",  # not published
        "placement": "system",
        "samples": 2,  # not in the paper
        "guideline_words": 8,  # not in the paper
        "thought_words": 40,  # not in the paper
        "screens": trace_screens(),
        "batch_size": 32,
    }
    config.stages.clusters = {
        "domains": {},
        "quality": (  # not in the paper
            {"name": "high", "field": "rubric.complexity", "at_least": 3.5},
            {"name": "medium", "field": "rubric.complexity", "at_least": 2.5},
            {"name": "low", "field": "rubric.complexity", "below": 2.5},
        ),
        "num_topics": 0,
        "safety_domain": "safety",
        "seed": 0,
        "batch_size": 256,
    }
    config.stages.held_out = {
        "share": 0.01,  # not in the paper
        "seed": 0,
        "fields": ("prompt",),
        "long_ngram": 13,  # as decontamination
        "short_ngram": 7,
        "contaminated_ratio": 0.5,  # not in the paper
        "partial_ratio": 0.1,  # not in the paper
        "partial": "keep",  # not in the paper
        "template_texts": 10,  # not in the paper
        "template_share": 0.05,  # not in the paper
        "batch_size": 1024,
    }
    config.stages.output = {
        "folder": "{workdir}/data",
        "data": {
            "name": "curated",
            "version": "1.0.0",
            "tokenizer": "models/phi-4-reasoning-base",
            "row_length": 32_768,
            "overlong": "error",
            "shard_mib": 256,
        },
        # Weights in the paper are tuned for each domain alone, and then put side by side; their values are not in it.
        "mixture": {"weights": (), "domains": {}, "default": 1.0, "safety_domain": "safety", "seed": 0},
    }
    return config


def screens() -> ConfigDict:
    """What a prompt may be like; none of it is in the paper."""
    return ConfigDict(
        {
            "languages": ("en",),
            "language_letters": 25,
            "min_words": 3,
            "max_words": 2000,
            "min_characters": 20,
            "max_characters": 0,  # no limit
            "tokenizer": "",
            "max_tokens": 0,  # no limit
            "min_letters": 0.3,
            "max_repetition": 0.5,
            "max_links": 1,
            "batch_size": 256,
        }
    )


def trace_screens() -> ConfigDict:
    """What a trace may be like; none of it is in the paper but the length of a row, 32,768 tokens with the prompt."""
    return ConfigDict(
        {
            "tokenizer": "models/phi-4-reasoning-base",
            "min_tokens": 0,
            "max_tokens": 31_000,
            "language": "en",
            "require_thought": True,
        }
    )


def generators() -> ConfigDict:
    """The models that are asked; in the paper these are o3-mini (teacher), Phi-4 and GPT-4o (weak)."""
    config = ConfigDict()
    sizes = {"strong": 8192, "weak": 4096, "teacher_medium": 31_000, "teacher_high": 31_000}  # not in the paper
    for name, max_tokens in sizes.items():
        config[name] = {
            "kind": "endpoint",
            "endpoint": common.endpoint(),
            # not in the paper
            "decoding": {"temperature": 0.8, "top_p": 0.95, "top_k": 0, "max_tokens": max_tokens},
            "thinking": name != "weak",
            "max_failures": 100,
        }
        config[name].endpoint.model = "weak" if name == "weak" else "strong"
    config.teacher_medium.endpoint.extra = {"reasoning_effort": "medium"}
    config.teacher_high.endpoint.extra = {"reasoning_effort": "high"}
    return config


def tiny() -> ConfigDict:
    """The stages that ask no model, on generated puzzles; of the three sources the third repeats half of the second."""
    config = paper()
    config.order = ("seeds", "exact_duplicates", "near_duplicates", "screens", "decontamination", "clusters")
    config.order += ("held_out", "output")
    config.shard_size = 64  # so that there are several
    for stage in ("rewriting", "teachability", "rubric", "traces", "safety", "final_decontamination"):
        del config.stages[stage]
    del config.generators
    puzzles = {"place": "task:ba_calendar?num=60&split=train", "licence": "Apache-2.0", "domain": "planning"}
    config.stages.seeds.sources = {
        "chains": {"place": "task:chains:train?num=300&min_ops=6&max_ops=9", "licence": "Apache-2.0", "domain": "math"},
        "puzzles": puzzles,
        "puzzles_again": {**puzzles, "limit": 30},
    }
    config.stages.exact_duplicates.prefer = ("puzzles",)
    config.stages.near_duplicates.threshold = 0.95  # puzzles share their rules
    config.stages.screens.min_letters = 0.15  # chains are mostly digits
    config.stages.screens.max_repetition = 0.8
    config.stages.decontamination.benchmarks = ("chains:test?num=100&min_ops=6&max_ops=9", "ba_calendar?num=20")
    config.stages.clusters.quality = ()
    config.stages.output.data.tokenizer = ""  # counts words
    config.stages.held_out.share = 0.1
    return config
