"""The decoder, the checkpoint reader and the sampler on a real language model, against the reference implementation."""

import pathlib
import tempfile

import jax
import numpy as np
import pytest

from benchmarks.smollm2 import write_smollm2_folder
from phi4r.checkpoint.release import load_hf_folder
from phi4r.errors import UserError
from phi4r.model.inputs import make_token_batch
from phi4r.model.logprobs import token_logprobs
from phi4r.model.transformer import Transformer, unembed
from phi4r.sampling.logits import SamplingParams
from phi4r.sampling.sampler import Sampler, SamplerSettings

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PARAGRAPH = (
    "The first steam locomotive to carry passengers on a public railway ran in the north of England in 1825. It drew a "
    "train of coal wagons, and a coach built for the occasion, at about fifteen miles an hour; people walked and rode "
    "beside the line to see whether it would really move. Within thirty years there were railways on every continent "
    "except Antarctica, and the price of moving a ton of goods over land had fallen to a tenth of what it had been."
)
QUESTION = "What is the capital of France, and which river flows through it?"
NEW_TOKENS = 40


@pytest.fixture(scope="module")
def folder():
    """The Hugging Face folder of SmolLM2-135M-Instruct, written once and kept for later runs."""
    try:
        return write_smollm2_folder(pathlib.Path(tempfile.gettempdir()) / "phi4r-smollm2-135m")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def reference(folder):
    torch.set_num_threads(1)
    return transformers.LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(folder):
    return load_hf_folder(folder)


def test_the_rebuilt_tokenizer_splits_digits_and_keeps_every_byte(tokenizer):
    assert tokenizer.tokenize("In 1825, it wasn't") == ["In", "Ġ", "1", "8", "2", "5", ",", "Ġit", "Ġwasn", "'t"]
    text = "naïve café 北京 🙂\n\n\tdef f(x):  return x**2"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer("<|im_end|>").input_ids == [tokenizer.eos_token_id]


def test_logits_and_nll_of_a_paragraph_agree_with_the_reference(reference, tokenizer, ours):
    config, params = ours
    tokens = tokenizer(PARAGRAPH, return_tensors="np").input_ids
    with torch.no_grad():
        expected = reference(torch.as_tensor(tokens)).logits[0].numpy()
    batch = make_token_batch(tokens, np.ones_like(tokens), np.ones_like(tokens, dtype=bool))
    model = Transformer(config)

    @jax.jit
    def score(params, batch):
        hidden, _ = model.apply({"params": params}, batch.tokens, batch.segment_ids, batch.positions)
        logprobs, _ = token_logprobs(model, params, batch, chunk_size=32)
        return unembed(hidden, params), -(logprobs * batch.loss_mask).sum() / batch.loss_mask.sum()

    logits, nll = score(params, batch)
    np.testing.assert_allclose(logits[0], expected, atol=1e-3, rtol=0)
    log_softmax = torch.log_softmax(torch.as_tensor(expected[:-1]), dim=-1).numpy()
    expected_nll = -np.take_along_axis(log_softmax, tokens[0, 1:, None], axis=-1).mean()
    assert 1.0 < expected_nll < 4.0, "text that the model finds unlikely: the weights are not in order"
    np.testing.assert_allclose(nll, expected_nll, atol=1e-3)


def test_greedy_text_of_the_sampler_equals_the_reference(reference, tokenizer, ours):
    config, params = ours
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=False
    )
    with torch.no_grad():
        whole = reference.generate(
            torch.as_tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
        )[0].tolist()
    expected = whole[len(prompt) :]
    settings = SamplerSettings(prompt_length=len(prompt) + 7, max_response=NEW_TOKENS)  # 7 slots of padding
    sampler = Sampler(config, settings, eos_ids=[tokenizer.eos_token_id], pad_id=tokenizer.pad_token_id)
    samples = sampler.sample(
        sampler.unroll(params), [prompt], jax.random.key(0), sampling=SamplingParams(temperature=0.0)
    )
    response = samples.tokens[samples.response_mask].tolist()
    assert tokenizer.decode(response) == tokenizer.decode(expected)
    assert response == expected
    assert "Paris" in tokenizer.decode(response)
