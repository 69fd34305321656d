# Sourced by train_mac.sh and test.sh: make .venv once, and find a fast BLAS on Linux.
# Plain enough for the bash 3.2 that macOS ships.

# find_python: print a Python >= 3.11 that can make virtual environments. $PYTHON comes first.
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python3.14 python; do
        [ -n "$candidate" ] || continue
        # Running it is the only test: version managers put names on PATH that do not start.
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
            >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

# no_python: say what is missing and how to get it.
no_python() {
    echo "No Python 3.11 or newer with the venv module was found." >&2
    if [ "$(uname -s)" = Darwin ]; then
        echo "Install one with: brew install python@3.12   (or from python.org), then run this again." >&2
    else
        echo "Install one with: sudo apt install python3 python3-venv   (or your system's package" >&2
        echo "manager), then run this again. PYTHON=/path/to/python3 names one that is elsewhere." >&2
    fi
}

# set_up EXTRAS: make .venv and install this checkout into it with EXTRAS, unless that is done.
set_up() {
    local extras="$1" python stamp sum
    stamp=".venv/installed-$extras"
    sum="$(cat pyproject.toml constraints.txt | cksum) $PWD"
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then
        return 0
    fi
    if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        python="$(find_python)" || { no_python; return 1; }
        echo "Making .venv with $python ($("$python" -V))"
        "$python" -m venv --clear .venv || return 1
    fi
    echo "Installing Livery [$extras] into .venv; this happens once and takes a few minutes."
    if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable ".[$extras]"; then
        echo "The installation failed; pip's message stands above. Run this again to retry." >&2
        return 1
    fi
    printf '%s' "$sum" >"$stamp"
}

# preload_openblas: on Linux, MLX's wheel brings a BLAS that is some thirty times slower than
# OpenBLAS; put OpenBLAS before it where it is installed, else say how to install it.
preload_openblas() {
    [ "$(uname -s)" = Linux ] || return 0
    case "${LD_PRELOAD:-}" in *blas*) return 0 ;; esac
    # The loader complains on stderr when it cannot preload a library.
    if [ -z "$(LD_PRELOAD=libopenblas.so.0 /bin/true 2>&1)" ]; then
        export LD_PRELOAD="libopenblas.so.0${LD_PRELOAD:+ $LD_PRELOAD}"
    else
        echo "OpenBLAS is not installed: MLX will run many times slower than it could. To mend it:" >&2
        echo "    sudo apt install libopenblas0-pthread   (Fedora: sudo dnf install openblas)" >&2
    fi
}
