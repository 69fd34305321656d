#!/usr/bin/env bash
# reset.sh: `livery dsl reset` itself, with the same options.
exec livery dsl reset "$@"
