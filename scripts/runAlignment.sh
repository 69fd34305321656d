#!/usr/bin/env bash
# runAlignment.sh: `livery dsl align` itself, with the same options.
exec livery dsl align "$@"
