#!/usr/bin/env bash
# Prove what this machine can train, in at most ten minutes; writes proof.md and proof.json here.
#
#     scripts/prove.sh                 # by .venv where there is one, else by python3 as it is
#     PYTHON=python3.12 scripts/prove.sh --out /tmp --only torch-bf16
#
# Nothing is installed and nothing is downloaded: what is missing is skipped by name.
set -eu
home=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x "$home/.venv/bin/python" ] && PYTHON="$home/.venv/bin/python"
fi
export PYTHONPATH="$home${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m commands.prove "$@"
