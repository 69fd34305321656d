#!/usr/bin/env bash
# runTraining.sh: `livery train` itself, with the same options.
exec livery train "$@"
