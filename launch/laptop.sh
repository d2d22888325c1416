#!/usr/bin/env bash
# Runs an experiment on a laptop as if it had 8 devices.
#
#   launch/laptop.sh [--config.key=value ...]
#   CONFIG=configs/sft_phi4_reasoning.py:tiny WORKDIR=runs/sft_tiny launch/laptop.sh
#
# What:  the CPU is split into virtual devices, so that parameters are sharded and batches spread as on a GPU node. It
#        shows that a config works on many devices; for speed, `make quickstart` with its one device is faster.
# When:  before renting a machine. The default, the quickstart, takes some minutes.
# Needs: phi4r in .venv (`make quickstart` makes it), or PYTHON set to an interpreter that has it.
#
# Settings (environment): CONFIG, WORKDIR, DEVICES (8), PYTHON (.venv/bin/python), XLA_FLAGS (added to those here),
# NPROC (threads: 4 a device).
# The same command again goes on where it stopped.

set -euo pipefail
if [[ "${1:-}" == "--help" || "${1:-}" == "-h" ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export JAX_PLATFORMS=cpu
export XLA_FLAGS="--xla_force_host_platform_device_count=${DEVICES:-8} ${XLA_FLAGS:-}"
# The size of XLA's thread pool. By default each virtual device has one thread in it; devices that wait in several
# collectives at once can use them all up, and XLA then aborts after 40 seconds.
export NPROC="${NPROC:-$((4 * ${DEVICES:-8}))}"

exec "${PYTHON:-.venv/bin/python}" -m phi4r.main \
  --config="${CONFIG:-configs/quickstart.py}" --workdir="${WORKDIR:-runs/quickstart_laptop}" "$@"
