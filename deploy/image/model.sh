#!/bin/sh
# model.sh VENV: the model in the box, put together in $SPARSIGHT_CACHE, unless ASSEMBLE=no: then a
# folder with a model is mounted at run time and named by --model.
set -eu
venv=$1
mkdir -p "$SPARSIGHT_CACHE"
[ "${ASSEMBLE:-yes}" = no ] || "$venv/bin/sparsight" assemble
