#!/usr/bin/env bash
# runTraining.sh: `livery train` itself, with the same options; by config/defaults.json, if here.
case " $*" in
*" --config"* | *" --resume"*) ;;
*) [ -f config/defaults.json ] && set -- --config config/defaults.json "$@" ;;
esac
exec livery train "$@"
