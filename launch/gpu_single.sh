#!/usr/bin/env bash
# Runs an experiment on one GPU of this machine.
#
#   launch/gpu_single.sh [--config.key=value ...]
#   CUDA_VISIBLE_DEVICES=3 CONFIG=configs/eval_reasoning.py:tiny WORKDIR=runs/eval launch/gpu_single.sh
#
# What:  one process, one GPU. The default is the larger quickstart, with a model of 10M parameters.
# When:  for models whose training state fits the GPU: 12 bytes a parameter in float32 with Adam (164 GiB for phi-4,
#        which does not fit: take configs/*_lora_h100.py), and 2 bytes a parameter with the cache for evaluation.
# Needs: an NVIDIA driver for CUDA 13 (580 or newer), and
#          python3 -m venv .venv && .venv/bin/pip install --editable '.[cuda]'
#
# Settings (environment): CONFIG, WORKDIR, CUDA_VISIBLE_DEVICES (0), XLA_CLIENT_MEM_FRACTION (0.92),
# PYTHON (.venv/bin/python). XLA_FLAGS is passed on as it is; none is needed.
# The same command again goes on where it stopped.

set -euo pipefail
if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export JAX_PLATFORMS=cuda,cpu # without a GPU this fails, where JAX alone would go on with the CPU
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES:-0}"
export XLA_CLIENT_MEM_FRACTION="${XLA_CLIENT_MEM_FRACTION:-0.92}" # JAX reserves 0.75 of the GPU by default

exec "${PYTHON:-.venv/bin/python}" -m phi4r.main \
  --config="${CONFIG:-configs/quickstart.py:gpu}" --workdir="${WORKDIR:-runs/quickstart_gpu}" "$@"
