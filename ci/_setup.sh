# Sourced by the verbs of this folder: a virtual environment with the project in it.
# CAA_VENV names another place for it; an environment that is up to date is left alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${CAA_VENV:-.venv}
export HF_HUB_DISABLE_TELEMETRY=1 PIP_DISABLE_PIP_VERSION_CHECK=1
stamp=$VENV/.installed-$(sha256sum pyproject.toml ci/_setup.sh | sha256sum | cut -c1-16)
if [ ! -f "$stamp" ]; then
  [ -x "$VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$VENV"
  # On a machine without a GPU, the pinned release keeps the CUDA packages away where a CPU build is served.
  "$VENV/bin/python" -m pip install --quiet "torch${CAA_TORCH:-==2.13.0}"
  "$VENV/bin/python" -m pip install --quiet --editable ".[local,dev]"
  rm -f "$VENV"/.installed-*
  touch "$stamp"
fi
PATH=$(cd "$VENV/bin" && pwd):$PATH
