#!/bin/sh
# project.sh VENV: Sparsight itself, from the folder that it runs in. VERSION says which version that is, for
# an image has no git tags: docker build --build-arg VERSION=0.2.0
set -eu
venv=$1
[ -z "${VERSION:-}" ] || export SETUPTOOLS_SCM_PRETEND_VERSION="$VERSION"
"$venv/bin/python" -m pip install --no-deps .
"$venv/bin/sparsight" --version
