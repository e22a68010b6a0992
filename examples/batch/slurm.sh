#!/bin/sh
# Captions a folder with a job array: sbatch --array=1-16 slurm.sh PHOTOS OUT_FOLDER
#
# Each task takes its own share of the photographs, by their names, and writes a file of its own. A
# task that was ended (time limit, node lost) goes on where it was when it is submitted again.
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --requeue
set -eu
exec sparsight caption "$1" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
    --out "$2/captions-$SLURM_ARRAY_TASK_ID.jsonl"
