# Sourced by the other scripts: makes and enters a virtual environment with everything the project needs.
#   PYTHON     the interpreter to build it with (default: python3)
#   LMLT_VENV  where it goes (default: .venv in the checkout)
#   BASICSR    what pip installs as BasicSR (default: basicsr); Python 3.13 needs a wheel that an older one built
# Installing again happens only after a change of the files that say what is installed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit 1
venv=${LMLT_VENV:-$root/.venv}
wanted=$(cat pyproject.toml setup.py constraints.txt scripts/environment.sh | cksum)

"${PYTHON:-python3}" -c "import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13 + ${BASICSR:+1}+0))" || {
    echo "Python 3.10, 3.11 or 3.12 is needed here: BasicSR 1.4.2 cannot be built by 3.13." \
        "Name one of those: PYTHON=python3.12 bash $0. For 3.13, name a wheel: BASICSR=basicsr-1.4.2-py3-none-any.whl" >&2
    exit 1
}
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing into $venv (the first time takes some minutes)"
    "${PYTHON:-python3}" -m venv "$venv" || exit 1
    (
        set -e
        pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check install -c constraints.txt "$@"; }
        # BasicSR's setup.py imports torch, numpy and cython: they come first, and the build uses them.
        pip torch torchvision numpy cython setuptools wheel
        pip --no-build-isolation -e '.[basicsr-runtime,dev,docs,export,images,openvino,plots,spandrel,video]'
        # Without its own list of needs: `basicsr-runtime` names current releases of the same things.
        pip --no-deps --no-build-isolation "${BASICSR:-basicsr}"
        echo "$wanted" >"$venv/installed"
    ) || {
        echo "The installation failed; the message above says why. Fix it and start again." >&2
        exit 1
    }
fi
export PATH="$venv/bin:$PATH"
