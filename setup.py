"""Installation of phi4r: `pip install -e .` (the Makefile does it, in an environment of its own)."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.*)"', (ROOT / "phi4r" / "__init__.py").read_text())[1]

setuptools.setup(
    name="phi4r",
    version=VERSION,
    description="From Phi-4 to Phi-4-reasoning and Phi-4-reasoning-plus, in JAX and in the open",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["phi4r", "phi4r.*"]),
    package_data={"phi4r.text": ["assets/*"], "phi4r.viewing": ["assets/*"]},
    # jax >= 0.11.1 does not work with flax <= 0.12.8: the newest pair of each Python version does
    # (3.11: jax 0.10.2 with flax 0.12.8; 3.12: jax 0.11.2 with flax 0.12.10).
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "grain>=0.2.18",
        "array-record>=0.8",
        "sentencepiece>=0.2.1",
        "protobuf>=5",
        "tensorflow-datasets>=4.9.10",
        "importlib_resources",  # imported by tensorflow-datasets, which does not declare it
        "ml-collections>=1.1",
        "numpy>=2.0",
        "sympy>=1.14",
        "latex2sympy2_extended[antlr4_13_2]>=1.11",
        "tokenizers>=0.22",
        "jinja2>=3.1.6",
        "jaxtyping>=0.3",
        "beartype>=0.21",
        "absl-py>=2.1",
        "tensorboardX>=2.6.2",
        "matplotlib>=3.9",
        "pyarrow>=17",
        "huggingface-hub>=0.34",
        "openai>=2",
        "py3langid>=0.4",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2"],
        "cuda": ["jax[cuda13]>=0.10.2"],
        "qlora": ["qwix>=0.1.8"],
        "curation": ["datasketch>=2", "scikit-learn>=1.5"],
        "beam": ["apache-beam>=2.77"],  # asks for protobuf < 7, with which sentencepiece 0.2.3 cannot load its models
        "test": [
            "pytest>=8",
            "datasketch>=2",
            "scikit-learn>=1.5",
            "pytest-xdist>=3.6",
            "hypothesis>=6",
            "ruff>=0.9",
            "pre-commit>=4",
            "scipy>=1.14",
            "langdetect>=1.0.9",
            "python-sat>=1.8",
            "math-verify>=0.9",
            "safetensors>=0.6",
            "tiktoken>=0.9",
            "gguf>=0.17",
            "ipython>=8",
            "transformers>=5.0",
            "peft>=0.21",
            "fastapi>=0.115",  # this and the next two: `transformers serve`
            "uvicorn>=0.30",
            "accelerate>=1.1",
            "qwix>=0.1.8",
        ],
        "notebooks": ["jupyterlab>=4", "ipywidgets>=8"],
    },
    entry_points={"console_scripts": ["phi4r = phi4r.tools.cli:main"]},
)
