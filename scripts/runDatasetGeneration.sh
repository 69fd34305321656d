#!/usr/bin/env bash
# runDatasetGeneration.sh: `livery dsl data` itself, with the same options.
exec livery dsl data "$@"
