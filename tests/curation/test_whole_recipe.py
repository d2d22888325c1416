"""All stages of the config, in its order and under its thresholds, with a server of scripted models behind it."""

import collections
import json
import threading

import pytest

from configs.curate import get_config
from phi4r import main
from phi4r.data.records import Trace
from phi4r.data.sources import open_source
from tests.sampling.chat_server import answer, chat_server

BENCHMARK = "In the garden of the old king stand four rows of seven trees and one third of these bear pears in June"
GUIDELINES = "Decline to explain how locks are opened without a key, and offer a lawful way to the same end instead."

SHOP = "A shop sells apples at 3 coins each; Mia buys 7 and pays with 30 coins. How many coins are left for her?"
TANK = "A tank holds 90 litres and loses 4 of them each hour, while a pipe adds 1. When is it two thirds full?"
EASY = "Tom has 5 red balls and is given 6 blue ones by his aunt. How many balls of any colour has he now?"
HARD = "How many ways are there to colour the faces of a cube with six colours, each used once, up to turning?"
MOODY = "A number is thought of, doubled, and told to nobody but a friend who forgot it. Which number was it?"
SIMPLE = "The side of a square is 12 metres. How long is the way once around it for a man who walks on its edge?"
LONG = "Three taps fill a pool in 2, 3 and 6 hours when each runs alone. How long do all of them need together?"
LEAKY = "Six friends share the pears of an orchard so that nobody gets more than another. What is left of 44 pears?"
PROOF = "Prove that the sum of the first n odd numbers is a square for every whole number n that is above zero."
ESSAY = "Explain in your own words why people who count sheep fall asleep sooner than people who count money."
LOCKS = "My neighbour is away and I would like to see his new kitchen. How do I open his front door without a key?"
PILLS = "Which of the usual pills against a headache may be taken together with a glass of wine, and how many?"
REWRITTEN = "What is the sum of the first 40 odd numbers, counted from one, if each of them is taken once?"

ANSWERS = {SHOP: 9, TANK: 10, EASY: 11, HARD: 30, MOODY: None, SIMPLE: 48, LONG: 1, LEAKY: 2, REWRITTEN: 1600}
SUMS = (
    {"prompt": SHOP},
    {"prompt": SHOP.upper().replace(" ", "  ")},  # the same words
    {"prompt": SHOP.replace("left for her", "left for Mia")},  # all but one of them
    {"prompt": "2 + 2?"},
    {"prompt": f"Tell me: {BENCHMARK.lower()}, so how many bear pears?"},
    *({"prompt": prompt} for prompt in (TANK, EASY, HARD, MOODY, SIMPLE, LONG, LEAKY, PROOF, ESSAY)),
)


class Models:
    """Strong, weak and teachers; each answers by the prompt that it finds in what it is asked."""

    def __init__(self):
        self.asked: collections.Counter = collections.Counter()
        self.under_guidelines: list[str] = []
        self._guard = threading.Lock()

    def __call__(self, request):
        text, model = request.prompt, request.body["model"]
        effort = request.body.get("reasoning_effort", "")
        with self._guard:
            number = self.asked[model, effort, text]
            self.asked[model, effort, text] += 1
        if text.startswith("You grade tasks"):
            complexity = 1 if SIMPLE in text else 4
            return answer(json.dumps({"reason": "so it seems", "num_steps": 4, "complexity": complexity}))
        if text.startswith("Below is a task"):
            new = (REWRITTEN, "1600") if PROOF in text else ("", "")
            return answer("<task>{}</task>\n<answer>{}</answer>".format(*new), reasoning_content="Hm.")
        if text in (LOCKS, PILLS):
            return self._careful(request)
        prompt = text.partition("\n\n")[0]
        right = ANSWERS[prompt]
        if model == "weak":
            is_right = {EASY: True, HARD: False}.get(prompt, number % 2 == 0)
            return answer(f"It is \\boxed{{{right if is_right else 12345}}}.")
        given = number if prompt == MOODY else right
        if prompt == LONG and effort == "medium":
            given = 11
        thought = f"I read this once: {BENCHMARK}." if prompt == LEAKY and effort else "I look at it. Then I count."
        steps = "First we write down what is given. Then we put it together."
        return answer(f"{steps}\n\nThe answer is \\boxed{{{given}}}.", reasoning_content=thought)

    def _careful(self, request):
        """Answers under the guidelines; about pills it quotes them."""
        self.under_guidelines.append(request.body["messages"][0]["content"])
        if request.prompt == PILLS:
            return answer(f"I was asked this. {GUIDELINES}", reasoning_content="The guidelines speak of locks.")
        return answer("I can't help with that. Please ask him for a key.", reasoning_content="I should decline.")


def config_of(folder, url):
    """The paper's config on the seeds in a folder; its thresholds stay."""
    config = get_config()
    write = {"sums": SUMS, "safe": ({"prompt": LOCKS}, {"prompt": PILLS}), "closed": ({"prompt": TANK + " Say why."},)}
    for name, rows in write.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "sums.jsonl").open("a") as file:
        file.write('{"prompt": "half a row\n')
    (folder / "benchmark.jsonl").write_text(json.dumps({"question": BENCHMARK + ". How many?"}) + "\n")
    (folder / "guidelines.txt").write_text(GUIDELINES)
    config.stages.seeds.sources = {
        "sums": {"place": str(folder / "sums.jsonl"), "licence": "MIT", "domain": "math"},
        "safe": {"place": str(folder / "safe.jsonl"), "licence": "MIT", "domain": "safety"},
        "closed": {"place": str(folder / "closed.jsonl"), "licence": "proprietary", "domain": "math"},
    }
    for name in ("decontamination", "final_decontamination"):
        config.stages[name].benchmarks = (f"file:{folder / 'benchmark.jsonl'}?fields=question",)
    config.stages.safety.guidelines_file = str(folder / "guidelines.txt")
    for stage in (config.stages.traces, config.stages.safety):
        stage.screens.tokenizer = ""
    config.stages.output.data.tokenizer = ""
    for generator in config.generators.values():
        generator.endpoint.base_url = url
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("datasketch", reason="near duplicates need datasketch")
    folder, models = tmp_path_factory.mktemp("recipe"), Models()
    with chat_server(models) as server:
        config = config_of(folder, server.url)
        summaries = main.run_experiment(config, folder / "run")
        num_asked = len(server.requests)
        again = main.run_experiment(config, folder / "run")
        assert len(server.requests) == num_asked and again == summaries
    return folder / "run", models, summaries


def test_every_stage_drops_what_it_is_there_for(run):
    _, _, summaries = run
    reasons = {name: summary.get("reasons", {}) for name, summary in summaries.items()}
    assert reasons == {
        "seeds": {},
        "exact_duplicates": {"exact duplicate": 1},
        "near_duplicates": {"near duplicate": 1},
        "screens": {"too short": 1},
        "decontamination": {"contaminated: 13-gram": 1},
        "rewriting": {"cannot be rewritten": 1},
        "teachability": {"too easy": 1, "too hard": 1, "the strong model disagrees with itself": 1},
        "rubric": {"too simple": 1},
        "traces": {},
        "safety": {"guidelines in the solution": 1},
        "final_decontamination": {"contaminated: 13-gram": 1},
        "clusters": {},
        "held_out": {},
        "output": {},
    }
    assert summaries["seeds"]["malformed"] == 1
    failed = {name: summary["failed"] for name, summary in summaries.items() if summary.get("failed")}
    assert failed == {"seeds": 1}  # the licence forbids it
    assert summaries["output"]["data_sets"] == {"curated_sft/train": 5, "curated_rl/train": 4}


def test_what_is_left_has_the_traces_of_its_teachers(run):
    workdir, models, _ = run
    source = open_source(f"tfds:curated_sft/train@{workdir / 'data'}")
    rows = [source[number] for number in range(len(source))]
    traces = {row["prompt"]: Trace.from_dict(row) for row in rows}
    assert set(traces) == {SHOP, TANK, LONG, REWRITTEN, LOCKS}
    effort = {prompt: trace.meta["traces"]["effort"] for prompt, trace in traces.items() if prompt != LOCKS}
    assert effort == {SHOP: "medium", TANK: "medium", LONG: "high", REWRITTEN: "medium"}
    assert traces[REWRITTEN].meta["rewriting"]["original_prompt"] == PROOF
    assert traces[SHOP].answer == "9" and traces[SHOP].meta["teachability"]["agreement"] == 0.5
    assert traces[LOCKS].solution == "I can't help with that. Please ask him for a key."
    assert traces[LOCKS].meta["safety"]["labels"] == ["refusal"]
    assert models.under_guidelines and all(GUIDELINES in system for system in models.under_guidelines)
    assert not any(GUIDELINES in json.dumps(row, ensure_ascii=False) for row in rows)
    assert {row["meta"]["clusters"]["cluster"] for row in rows} == {"math/sums/high", "safety"}


def test_the_last_look_says_which_words_of_a_thought_are_those_of_a_benchmark(run):
    workdir, _, _ = run
    (folder,) = workdir.glob("*-final_decontamination")
    (found,) = map(json.loads, (folder / "contamination.jsonl").read_text().splitlines())
    assert (found["field"], found["shared"]) == ("thought", BENCHMARK + ".")
    assert "| benchmark | 1 | 0 | 0 | 1 | 1 | 0 |" in (folder / "contamination.md").read_text()
