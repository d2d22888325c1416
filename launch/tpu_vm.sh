#!/usr/bin/env bash
# Runs an experiment on all chips of a Cloud TPU slice; to be called on each of its hosts.
#
#   launch/tpu_vm.sh [--config.key=value ...]
#
# What:  one process a host, which drives its chips; the mesh of the config (fsdp=-1) takes all of the slice. On a
#        slice of several hosts (v5p-16 and larger) call it on all at once, with COORDINATOR=auto and a WORKDIR that
#        all of them see (a mounted bucket or disk):
#          gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
#            --command='cd phi4r && COORDINATOR=auto CONFIG=... WORKDIR=/mnt/runs/sft launch/tpu_vm.sh'
# When:  you have a TPU. The programs of the paper's configs compile for v5p and v6e (`phi4r plan`), but nothing has run
#        on a TPU yet. The default is the larger quickstart, which runs on one host.
# Needs: Python 3.11 or newer on the host (some images have an older one), and phi4r:
#
#   gcloud compute tpus tpu-vm create NAME --zone=ZONE --accelerator-type=v6e-8 --version=v2-alpha-tpuv6e
#   gcloud compute tpus tpu-vm scp --recurse phi4r-folder NAME:phi4r --zone=ZONE
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE
#   cd phi4r && python3 -m venv .venv && .venv/bin/pip install --editable '.[tpu]'
#   tmux new launch/tpu_vm.sh                        # goes on when the connection breaks
#
# Settings (environment): CONFIG, WORKDIR (on a disk that outlives the host), COORDINATOR (none), PYTHON
# (.venv/bin/python). XLA_FLAGS and LIBTPU_INIT_ARGS are passed on as they are; none is needed.
# On a preemption notice (SIGTERM) the run saves and exits with code 75; the same command goes on where it stopped.

set -euo pipefail
if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export JAX_PLATFORMS=tpu,cpu # without a TPU this fails, where JAX alone would go on with the CPU

exec "${PYTHON:-.venv/bin/python}" -m phi4r.main \
  --config="${CONFIG:-configs/quickstart.py:gpu}" --workdir="${WORKDIR:-runs/quickstart_tpu}" "$@" \
  ${COORDINATOR:+--coordinator="$COORDINATOR"}
