# Sourced by ./vmglue and ./run-tests: makes the virtual environment .venv, or brings it up to date.
# POSIX sh. The caller has set `root` to the repository's folder. -I: what lies in the folder of whoever calls is not run.

say() { printf 'vmglue: %s\n' "$*" >&2; }

# Prints the first Python that is new enough and can make virtual environments; else says what is missing.
find_python() {
    without_venv=
    for candidate in python3.13 python3.12 python3.11 python3; do
        "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        if "$candidate" -I -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return 0
        fi
        without_venv=$candidate
    done
    if [ -n "$without_venv" ]; then
        say "$without_venv is there, but without its venv module; on Debian and Ubuntu: apt install $without_venv-venv"
    else
        say "Python 3.11 or newer is needed; none of python3.13, python3.12, python3.11, python3 is"
    fi
    return 1
}

# Fingerprint of everything that decides what is installed.
fingerprint() {
    cat "$root/pyproject.toml" "$root/hatch_build.py" "$root"/protos/*.proto | cksum
}

# environment EXTRAS [SUPERSET]: .venv with the package installed in place and these extras. Nothing is done if they,
# or the superset of them, are installed for the present state of the files.
environment() {
    wanted=$(fingerprint)
    for extras in "$@"; do
        stamp="$root/.venv/vmglue-installed-$extras"
        if [ -x "$root/.venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
            return 0
        fi
    done
    extras=$1
    if "$root/.venv/bin/python" -I -c '' 2>/dev/null; then
        say "bringing .venv up to date (a few seconds)"
    else
        python=$(find_python) || return 1
        say "making .venv with $python (once; one to three minutes, downloads about 200 MB)"
        "$python" -I -m venv --clear "$root/.venv" || return 1
    fi
    "$root/.venv/bin/python" -I -m pip install --quiet --quiet --disable-pip-version-check --editable "$root[$extras]" >&2 || {
        say "the installation failed; pip's reason stands above"
        return 1
    }
    printf '%s\n' "$wanted" >"$root/.venv/vmglue-installed-$extras"
}
