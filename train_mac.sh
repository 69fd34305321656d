#!/usr/bin/env bash
# Train, evaluate and report an adapter on this machine, from nothing but git and Python:
#
#   ./train_mac.sh                                             date-keys on the embedded base
#   ./train_mac.sh date-keys --model mlx-community/gemma-3-270m-it-bf16
#
# Every argument goes to `livery run`; `./train_mac.sh --help` lists them.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
. scripts/setup.sh
set_up mlx || exit 1
preload_openblas
exec .venv/bin/python -m livery run "$@"
