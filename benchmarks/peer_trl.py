"""The side of TRL in `benchmarks.grpo_vs_trl`; needs trl (with torch and transformers) and nothing of this project.

Run by `benchmarks.peers.Peer`: the one argument is JSON with the settings below. Each line of the standard input is a
step of GRPO, answered with its seconds, those of its rollout, its response tokens and the mean entropy of them.
"""

import json
import sys
import tempfile
import time

sys.stdout, answers = sys.stderr, sys.stdout  # what libraries print is no answer

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402


class Trainer(GRPOTrainer):
    """Knows how long its rollouts take."""

    rollout_s = 0.0

    def _generate(self, *arguments, **named):
        started = time.perf_counter()
        generated = super()._generate(*arguments, **named)
        self.rollout_s = time.perf_counter() - started
        return generated


class Turns(TrainerCallback):
    """Waits for a line before each step, and answers after it."""

    def __init__(self):
        self.trainer = None
        self.tokens = 0
        self._started = 0.0

    def on_step_begin(self, args, state, control, **unused):
        """Waits; where nobody asks any more, this is the last step."""
        if not sys.stdin.readline():
            raise SystemExit
        self._started = time.perf_counter()

    def on_step_end(self, args, state, control, **unused):
        """Answers."""
        answer = {
            "seconds": time.perf_counter() - self._started,
            "rollout_s": self.trainer.rollout_s,
            "tokens": self.tokens,
            "entropy": float(self.trainer._metrics["train"]["entropy"][-1]),
        }
        print(json.dumps(answer), file=answers, flush=True)


def ids_tokenizer(vocab_size, eos_id, pad_id):
    """Returns a tokenizer whose text is ids, so that both sides get the same prompts."""
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(vocab_size)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=str(eos_id), pad_token=str(pad_id))


def main():
    """Trains until nobody asks for a step any more."""
    settings = json.loads(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(settings["folder"], dtype=torch.float32)
    model.generation_config.eos_token_id = model.config.eos_token_id = settings["eos_id"]
    turns = Turns()

    def brevity(completion_ids, **unused):
        turns.tokens = sum(map(len, completion_ids))
        return [-len(ids) / settings["max_response"] for ids in completion_ids]

    rows = settings["problems"] * settings["group_size"]
    page_size = 64
    longest = max(map(len, settings["prompts"])) + settings["max_response"]
    pages = {  # by default the cache takes 60% of the memory, and most of a step is spent on clearing it
        "page_size": page_size,
        "num_blocks": (rows + 1) * -(-longest // page_size),
        "max_batch_tokens": 4 * rows,
        "max_requests_per_batch": rows,
    }
    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            output_dir=scratch,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=rows // settings["parts"],
            gradient_accumulation_steps=settings["parts"],
            num_generations=settings["group_size"],
            max_completion_length=settings["max_response"],
            temperature=1.0,
            beta=0.0,
            loss_type="grpo",
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_steps=settings["max_steps"],
            use_transformers_continuous_batching=settings["continuous"],
            transformers_continuous_batching_config=pages if settings["continuous"] else None,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = turns.trainer = Trainer(
            model=model,
            reward_funcs=brevity,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [" ".join(map(str, ids)) for ids in settings["prompts"]]}),
            processing_class=ids_tokenizer(model.config.vocab_size, settings["eos_id"], settings["pad_id"]),
            callbacks=[turns],
        )
        trainer.train()


if __name__ == "__main__":
    main()
