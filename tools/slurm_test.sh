#!/usr/bin/env bash
# Usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS are taken from the environment.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/launch.sh"

USAGE='usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of test.py]'
slurm_tool "${1:?$USAGE}" "${2:?$USAGE}" test.py "${3:?$USAGE}" "${4:?$USAGE}" "${@:5}"
