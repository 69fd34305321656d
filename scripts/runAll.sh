#!/usr/bin/env bash
# runAll.sh: `livery dsl run` itself, with the same options.
exec livery dsl run "$@"
