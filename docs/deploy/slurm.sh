#!/bin/bash
# A suite on Slurm: a Ray head on the first node, a Ray worker on every other, the driver beside the head.
#   sbatch docs/deploy/slurm.sh suite.yaml /shared/store
# Sent again, also after a time limit, it goes on with what is left. All nodes have to see the store and the
# environment in which `ray` and `peftgrid` are.
#SBATCH --job-name=peftgrid
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@300
set -euo pipefail
suite=$1 store=$2
port=${PEFTGRID_RAY_PORT:-6379}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | cut -d ' ' -f 1)

srun --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --node-ip-address="$address" --port="$port" --include-dashboard=false --block &
sleep 15
others=$((SLURM_JOB_NUM_NODES - 1))
if ((others > 0)); then
  srun --nodes="$others" --ntasks="$others" --exclude="$head" ray start --address="$address:$port" --block &
  sleep 15
fi

peftgrid run "$suite" --store "$store" --address "$address:$port" &
driver=$!
# Slurm says five minutes before the end that it comes: the driver then stops every run at its next step.
trap 'kill -TERM $driver' TERM
code=0
wait "$driver" || code=$?
if kill -0 "$driver" 2> /dev/null; then
  code=0
  wait "$driver" || code=$?
fi
exit "$code"
