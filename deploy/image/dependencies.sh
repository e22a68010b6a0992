#!/bin/sh
# dependencies.sh cpu|cuda VENV: a virtual environment with all that Sparsight needs, in the
# versions that it is tested with. Runs in a folder that has pyproject.toml and constraints.txt.
set -eu
variant=$1 venv=$2
here=$(dirname "$0")
index=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}

python -m venv "$venv"
case $variant in
  # The registry's torch brings 2 GB of CUDA's libraries; this one does not.
  cpu) "$venv/bin/python" -m pip install -c constraints.txt --index-url "$index" torch ;;
  cuda) ;;
  *) echo "dependencies.sh: variant is '$variant', expected cpu or cuda" >&2; exit 2 ;;
esac
"$venv/bin/python" "$here/requirements.py" pyproject.toml "$variant" >/tmp/requirements.txt
"$venv/bin/python" -m pip install -c constraints.txt -r /tmp/requirements.txt
rm /tmp/requirements.txt
