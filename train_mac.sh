#!/usr/bin/env bash
# Train, evaluate and report an adapter on this machine, from nothing but git and Python:
#
#   ./train_mac.sh                                             date-keys; on a GPU a real base
#   ./train_mac.sh date-keys --model mlx-community/gemma-3-270m-it-bf16
#
# Every argument goes to `livery run`; `./train_mac.sh --help` lists them.
set -u
# The checkout, also through symbolic links and whatever CDPATH says.
here="${BASH_SOURCE[0]}"
while [ -L "$here" ]; do
    to="$(readlink "$here")"
    case "$to" in /*) here="$to" ;; *) here="$(dirname -- "$here")/$to" ;; esac
done
CDPATH='' cd -P -- "$(dirname -- "$here")" || exit 1
. scripts/setup.sh
set_up mlx || exit 1
exec .venv/bin/python -m livery run "$@"
