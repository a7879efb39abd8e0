#!/bin/sh
# Starts a process of an image. Numba insists on a folder that it may write to, so that each container gets a copy of
# the compiled code of its image, which nobody else can change. On another kind of processor than the one that the image
# was built on it is compiled anew.
set -eu
mkdir -p "$NUMBA_CACHE_DIR"
cp -R /opt/venv/compiled/. "$NUMBA_CACHE_DIR"
exec "$@"
