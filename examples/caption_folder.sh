#!/bin/sh
# Captions every photograph of a folder: sh caption_folder.sh PHOTOS OUT_FOLDER
#
# Leaves captions.jsonl, the same as parquet, and a .xmp beside each photograph, which picture libraries
# show as description and alternative text. Run it again at any time: it goes on where it was.
set -eu
mkdir -p "$2"
exec sparsight caption "$1" --out "$2/captions.jsonl" --parquet "$2/parquet" --sidecar xmp
