#!/usr/bin/env bash
# sbatch slurm.sh: two nodes of eight GPUs. SLURM sends SIGUSR1 three minutes before the time limit, and SIGTERM when it
# preempts the job: the state is saved, and the job goes back into the queue, where `--resume auto` continues the run.
#SBATCH --job-name=ganblocks
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

export MASTER_ADDR MASTER_PORT=29500
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 torchrun \
  --nnodes="$SLURM_NNODES" --nproc-per-node=8 --max-restarts=3 \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$MASTER_ADDR:$MASTER_PORT" \
  --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 --shutdown-timeout=120 \
  -m ganblocks train stylenat-ffhq-256 --data /data/ffhq --out /runs/ffhq --resume auto --workers 6 --quiet &
training=$!

requeue() {
  kill -USR1 "$training" # srun passes it on to torchrun, which passes it on to the processes
  wait "$training"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
}
trap requeue USR1 TERM
wait "$training"
