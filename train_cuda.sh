#!/usr/bin/env bash
# Train, evaluate and report an adapter on a CUDA workstation, from nothing but git and Python:
#
#   ./train_cuda.sh                                             date-keys; on a GPU a real base
#   ./train_cuda.sh date-keys --model ID_OR_PATH --load-in-4bit --optim adamw_8bit
#
# Every argument goes to `livery run --backend torch`; `./train_cuda.sh --help` lists them.
set -u
# The checkout, also through symbolic links and whatever CDPATH says.
here="${BASH_SOURCE[0]}"
while [ -L "$here" ]; do
    to="$(readlink "$here")"
    case "$to" in /*) here="$to" ;; *) here="$(dirname -- "$here")/$to" ;; esac
done
CDPATH='' cd -P -- "$(dirname -- "$here")" || exit 1
. scripts/setup.sh
set_up cuda || exit 1
exec .venv/bin/python -m livery run --backend torch "$@"
