#!/usr/bin/env bash
# Runs an experiment on all chips of one Cloud TPU host; to be called on that host.
#
#   launch/tpu_vm.sh [--config.key=value ...]
#
# What:  one process that drives the 4 chips of a v5p-8 or the 8 chips of a v6e-8; the mesh of the config (fsdp=-1)
#        takes all. Slices of several hosts (v5p-16 and larger) are not supported: phi4r.main does not start
#        jax.distributed, and would wait for the other hosts.
# When:  you have a TPU. The code is written for TPUs too, but has not been run on one yet. The default is the larger
#        quickstart; the paper's configs are sized for 32 H100 and have not been run on one host.
# Needs: Python 3.11 or newer on the host (some images have an older one), and phi4r:
#
#   gcloud compute tpus tpu-vm create NAME --zone=ZONE --accelerator-type=v6e-8 --version=v2-alpha-tpuv6e
#   gcloud compute tpus tpu-vm scp --recurse phi4r-folder NAME:phi4r --zone=ZONE
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE
#   cd phi4r && python3 -m venv .venv && .venv/bin/pip install --editable '.[tpu]'
#   tmux new launch/tpu_vm.sh                        # goes on when the connection breaks
#
# Settings (environment): CONFIG, WORKDIR (on a disk that outlives the host), PYTHON (.venv/bin/python). XLA_FLAGS and
# LIBTPU_INIT_ARGS are passed on as they are; none is needed.
# The same command again goes on where it stopped, so a preempted host loses the steps since its last checkpoint.

set -euo pipefail
if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export JAX_PLATFORMS=tpu,cpu # without a TPU this fails, where JAX alone would go on with the CPU

exec "${PYTHON:-.venv/bin/python}" -m phi4r.main \
  --config="${CONFIG:-configs/quickstart.py:gpu}" --workdir="${WORKDIR:-runs/quickstart_tpu}" "$@"
