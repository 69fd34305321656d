#!/usr/bin/env bash
# Set up and run every check: style, types, tests.
#
#   ./test.sh                      all but the sweep, as CI does
#   ./test.sh fast                 style, types of what you changed, of every quick test its first case
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
set_up mlx,cuda,llamacpp,fasttext,shell,serve,dev
types() { .venv/bin/pyright --pythonpath .venv/bin/python "$@"; }
changed() { # the packages' files that differ from main; on main, from the last commit
    local packages=(livery commands mlx_train cuda_train convert datagen eval base_model benchmarks)
    local base
    base="$(git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null)" ||
        return 1
    git diff --name-only --diff-filter=d "$base" -- "${packages[@]/%//*.py}"
    git ls-files --others --exclude-standard -- "${packages[@]/%//*.py}"
}
if [ "${1:-}" = "" ] || [ "$1" = fast ]; then
    .venv/bin/python scripts/check_pins.py
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    [ "${1:-}" = fast ] || types
fi
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
export HF_HUB_OFFLINE=1 # no test may depend on the network
# macOS ends forks of a process that has loaded its frameworks; tests that kill fork such ones.
export OBJC_DISABLE_INITIALIZE_FORK_SAFETY=YES
# What is compiled is kept, whatever the caller's environment says: the tests start hundreds of
# processes.
unset PYTHONDONTWRITEBYTECODE

case "${1:-}" in
"") exec .venv/bin/python -m pytest -n 2 -m "not sweep" ;;
fast)
    shift
    # All of the types take longer than the tests: the whole run checks those.
    if files="$(changed)"; then
        [ -n "$files" ] || files=livery/__init__.py
    else
        files="" # no git, no main: everything
    fi
    # shellcheck disable=SC2086
    types $files >.venv/types.log 2>&1 & # beside the tests
    checker=$!
    failed=0
    .venv/bin/python -m pytest -n 2 --fast -q "$@" || failed=$?
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
