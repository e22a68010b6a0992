#!/bin/sh
# project.sh VENV: Sparsight itself, from the folder that it runs in.
set -eu
venv=$1
"$venv/bin/python" -m pip install --no-deps .
"$venv/bin/sparsight" --version
