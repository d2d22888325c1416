"""Evaluation of a reasoning model by the protocol of the paper (section 5 and table 1, arXiv 2504.21318).

Every problem is asked several times at temperature 0.8 (the generation defaults of the release: top_p 0.95, top_k 50),
and a score is a mean over runs with its standard deviation, because one run of 30 problems says little: on AIME 25 the
runs of one model differ by 5 points of standard deviation.

    runs             50 for AIME 25, 5 for the other reasoning sets, 10 attempts for Codeforces
    responses        up to 65,536 tokens, thought included; what is cut off is wrong, and its share is reported
    longest row      1,024 prompt + 65,536 response = 66,560 tokens; the model was trained on 32,768 positions, and goes
                     on past them with the angles it has (config.rope: linear, ntk or yarn with a factor scale them)
    cache            200 KiB a token in bfloat16: 12.7 GiB for each full row, 250 GiB for 10,240 tokens of each of 128
    time             AIME 25, 50 runs: 1,500 responses of about 11k tokens (14.8k after GRPO), 17 million tokens
    number           AIME 25 63.1 (sd 6.3) for Phi-4-reasoning, 78.0 (sd 4.6) for Phi-4-reasoning-plus

    python -m phi4r.main --config=configs/eval_reasoning.py --workdir=runs/aime25 --config.model=runs/grpo/params

The problems are downloaded; a copy is named as `--config.task=aime_2025:FILE`, and any other task of
`phi4r evaluate --tasks` in their place. The argument `suite` asks all sets of tables 1 and 2 with their own numbers of
runs: about 97,000 responses, and those of LiveCodeBench and Codeforces. Codeforces and ArenaHard are files to be put
into data/, some downloads ask for a token, and what one has not is left out of `--config.task`:

    python -m phi4r.main --config=configs/eval_reasoning.py:suite --workdir=runs/suite --config.model=runs/grpo/params
    phi4r report runs/suite

The argument `endpoint` is the suite asked of a server that speaks the protocol of OpenAI. Words after a comma say how
the family of a model is decoded in the paper (common.EVAL_FAMILIES: phi4_reasoning, the default, deepseek, others,
server_default, o_series), in `paper` and `suite` too where the server has nothing to do with it:

    python -m phi4r.main --config=configs/eval_reasoning.py:suite,deepseek --workdir=runs/distill --config.model=FOLDER
    python -m phi4r.main --config=configs/eval_reasoning.py:endpoint,o_series --workdir=runs/o3_mini_high \
        --config.endpoint.base_url=https://api.openai.com/v1 --config.endpoint.model=o3-mini \
        --config.endpoint.extra="{'reasoning_effort': 'high'}"

No language model judges by default. The words `judge` (for ArenaHard) and `extraction` (reads answers where rules find
none; reported apart) add a section each, config.judge and config.extraction, with the server of that model:

    python -m phi4r.main --config=configs/eval_reasoning.py:suite,judge --workdir=runs/suite \
        --config.model=runs/grpo/params --config.judge.endpoint.model=gpt-4o \
        --config.judge.endpoint.base_url=https://api.openai.com/v1

The argument `tiny` takes the same path in a minute on a laptop, with the SFT model of the quickstart:

    make quickstart
    python -m phi4r.main --config=configs/eval_reasoning.py:tiny --workdir=runs/eval_tiny
"""

from ml_collections import ConfigDict

from configs import common

# As published, where they are; 3SAT and TSP are generated like the paper's (`maze`, `ba_calendar` and so on would be).
REASONING = (
    "aime_2025",
    "aime_1983_2024",
    "hmmt_feb_2025",
    "omni_math",
    "gpqa_diamond",
    "livecodebench",
    "codeforces:data/codeforces.jsonl",
    "3sat",
    "tsp",
    "ba_calendar_hub",
    "maze_hub",
    "spatial_map_hub",
)
GENERAL = (
    "flenqa_hub_3k",
    "ifeval",
    "arena_hard:data/arena_hard.jsonl",
    "humaneval_plus",
    "mmlu_pro",
    "kitab_one",
    "kitab_two",
    "toxigen",
)
_JUDGES = ("judge", "extraction")


def get_config(argument: str = "paper") -> ConfigDict:
    """Returns the config.

    Args:
      argument: a size ("paper", "suite", "endpoint" or "tiny"), or several words with commas between them: a size, a
        family of `common.EVAL_FAMILIES`, "judge", "extraction".
    """
    sizes = {"paper": paper, "suite": suite, "endpoint": endpoint, "tiny": tiny}
    first, *words = argument.split(",")
    if first not in sizes and first in (*common.EVAL_FAMILIES, *_JUDGES):
        first, words = "paper", [first, *words]
    config = common.of_size(first, sizes)
    for word in words:
        if word in _JUDGES:
            config[word] = common.judge()
        elif word in common.EVAL_FAMILIES:
            _decode_as(config, word)
        else:
            raise ValueError(f"{word!r} does not follow a size; take {' or '.join((*common.EVAL_FAMILIES, *_JUDGES))}.")
    return config


def paper() -> ConfigDict:
    """AIME 25 with its 50 runs."""
    config = ConfigDict()
    config.experiment = "evaluate"
    config.seed = 0
    config.model = "runs/grpo/params"
    config.task = "aime_2025"
    config.num_runs = 50
    config.thinking = True
    config.batch_size = 500  # a third of AIME 25
    config.dtype = "bfloat16"
    config.deadline_s = 5.0  # not in the paper
    config.rope = common.rope()
    config.mesh = common.mesh()

    config.sampler = ConfigDict()
    config.sampler.prompt_length = 1024
    config.sampler.max_response = 65_536
    # Not in the paper. Responses that are running have 6k to 8k tokens in the mean; where pages run out, the youngest
    # wait. On 8 GPUs of 80 GB: 27.3 GiB of weights for decoding, 3.4 of parameters and 31.3 of pages on each.
    config.sampler.num_slots = 128
    config.sampler.cache_tokens = 128 * 10_240

    config.decoding = ConfigDict(common.EVAL_FAMILIES["phi4_reasoning"]["decoding"])
    config.decoding.max_tokens = 65_536
    return config


def suite() -> ConfigDict:
    """All sets of tables 1 and 2, each with the runs of its own protocol."""
    config = paper()
    config.task = " ".join((*REASONING, *GENERAL))
    del config.num_runs  # the task's own
    config.sampler.prompt_length = 4096  # 3,000 tokens of FLenQA and what is asked about them
    return config


def endpoint() -> ConfigDict:
    """The suite, asked of a server."""
    config = suite()
    config.generator = "endpoint"
    config.endpoint = common.endpoint()
    config.batch_size = 1_000_000  # all of a task: no request waits for the slowest of a batch
    for key in ("model", "sampler", "dtype", "rope", "mesh"):  # the server's
        del config[key]
    return config


def tiny() -> ConfigDict:
    """The same path in small: arithmetic chains a little longer than the SFT model was taught."""
    config = paper()
    config.model = "runs/quickstart/sft/params"
    config.task = "chains:test?num=100&min_ops=6&max_ops=7"
    config.num_runs = 3
    config.batch_size = 100
    config.dtype = "float32"

    config.sampler.prompt_length = 24
    config.sampler.max_response = 32
    config.sampler.num_slots = 100
    del config.sampler.cache_tokens  # a place for all
    config.sampler.page_size = 32  # a prompt fills most of one

    config.decoding.max_tokens = 32
    return config


def _decode_as(config: ConfigDict, family: str) -> None:
    """Sets what the paper's protocol says of a family.

    Raises:
      ValueError: for a family that only a server has, without a server.
    """
    preset = common.EVAL_FAMILIES[family]
    if "endpoint" in preset and "endpoint" not in config:
        raise ValueError(f"{family!r} says what a server is sent; write endpoint,{family}.")
    config.decoding.update(preset["decoding"])
    config.thinking = preset.get("thinking", True)
    if "endpoint" in preset:
        config.endpoint.update(preset["endpoint"])
