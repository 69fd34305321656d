#!/usr/bin/env bash
# runEvals.sh: `livery dsl evaluate` itself, with the same options.
exec livery dsl evaluate "$@"
