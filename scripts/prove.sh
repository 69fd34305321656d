#!/usr/bin/env bash
# Prove what this machine can train, in at most ten minutes; writes proof.md and proof.json here.
#
#     scripts/prove.sh                 # by .venv where there is one, else by python3 as it is
#     PYTHON=python3.12 scripts/prove.sh --out /tmp --only torch-bf16
#
# Nothing is installed and nothing is downloaded: what is missing is skipped by name.
set -eu
# The checkout, also through symbolic links and whatever CDPATH says.
here="${BASH_SOURCE[0]}"
while [ -L "$here" ]; do
    to="$(readlink "$here")"
    case "$to" in /*) here="$to" ;; *) here="$(dirname -- "$here")/$to" ;; esac
done
home="$(CDPATH='' cd -P -- "$(dirname -- "$here")/.." && pwd)"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x "$home/.venv/bin/python" ] && PYTHON="$home/.venv/bin/python"
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "Livery needs Python 3.11 or newer; $PYTHON is $("$PYTHON" -V 2>/dev/null || echo not there)." >&2
    echo "Name another one, with torch or MLX: PYTHON=/path/to/python3.12 scripts/prove.sh" >&2
    exit 1
fi
export PYTHONPATH="$home${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m commands.prove "$@"
