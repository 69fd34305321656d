#!/usr/bin/env bash
# runEvals.sh: `livery dsl evaluate` itself, with the same options, and its report.
exec livery dsl evaluate --report "$@"
