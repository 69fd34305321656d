#!/usr/bin/env bash
# Set up and run every check: style, types, tests.
#
#   ./test.sh                      all but the sweep, as CI does
#   ./test.sh fast                 style, types, and of every quick test its first case
#   ./test.sh sweep                two hundred model families, before a release
#   ./test.sh tests/commands/test_cli.py    these tests alone (any pytest arguments)
set -eu
# The checkout, also through symbolic links and whatever CDPATH says.
here="${BASH_SOURCE[0]}"
while [ -L "$here" ]; do
    to="$(readlink "$here")"
    case "$to" in /*) here="$to" ;; *) here="$(dirname -- "$here")/$to" ;; esac
done
CDPATH='' cd -P -- "$(dirname -- "$here")"
. scripts/setup.sh
set_up mlx,cuda,llamacpp,fasttext,shell,dev
types() { .venv/bin/pyright --pythonpath .venv/bin/python; }
if [ "${1:-}" = "" ] || [ "$1" = fast ]; then
    .venv/bin/python scripts/check_pins.py
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    [ "${1:-}" = fast ] || types
fi
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 # no test may depend on the network

case "${1:-}" in
"") exec .venv/bin/python -m pytest -n 2 -m "not sweep" ;;
fast)
    shift
    types >.venv/types.log 2>&1 & # beside the tests, which wait for processes now and then
    checker=$!
    failed=0
    # In one process: a second one would import torch, MLX and every test again. What is compiled of
    # the tests is kept, whatever the caller's environment says: that halves the next start.
    env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest -p no:xdist --fast -q "$@" || failed=$?
    wait "$checker" || failed=$?
    cat .venv/types.log
    exit "$failed"
    ;;
sweep)
    shift
    exec .venv/bin/python -m pytest -n 2 -m sweep "$@"
    ;;
*) exec .venv/bin/python -m pytest "$@" ;;
esac
