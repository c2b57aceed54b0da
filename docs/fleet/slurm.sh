#!/bin/sh
# Eight shards, each with a node to itself:  sbatch docs/fleet/slurm.sh
# Then, when all have ended:  aufs-bench merge results/shard-* --out results/whole
#SBATCH --job-name=aufs-bench
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --exclusive
set -eu

# Root is needed for kernel drivers; without it the bench takes a user namespace, and what that refuses is skipped.
exec aufs-bench run --matrix full --shard auto \
    --label "$(hostname)" --backing "${TMPDIR:-/tmp}/aufs-bench" \
    --out "results/shard-$SLURM_ARRAY_TASK_ID"
