#!/usr/bin/env bash
# Set up and run every check: style, types, tests.
#
#   ./test.sh                      all but the sweep, as CI does
#   ./test.sh fast                 without the tests marked slow
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
set_up mlx,cuda,llamacpp,fasttext,dev
if [ "${1:-}" = "" ] || [ "$1" = fast ]; then
    .venv/bin/python scripts/check_pins.py
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/pyright --pythonpath .venv/bin/python
fi
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 # no test may depend on the network

case "${1:-}" in
"") exec .venv/bin/python -m pytest -n 2 -m "not sweep" ;;
fast)
    shift
    exec .venv/bin/python -m pytest -n 2 -m "not slow and not sweep" "$@"
    ;;
sweep)
    shift
    exec .venv/bin/python -m pytest -n 2 -m sweep "$@"
    ;;
*) exec .venv/bin/python -m pytest "$@" ;;
esac
