#!/bin/sh
# Removes from the environment $1 what no run needs: tests of libraries, headers, type stubs, symbols, the parts of Arrow
# that read from other things than files, and lexers of languages that are not Python.
set -eu
cd "$1"/lib/python3.11/site-packages
find numba numpy llvmlite pyarrow psutil -depth \
    \( -type d \( -name tests -o -name include -o -name f2py -o -name distutils \) -o -name '*.pyi' -o -name '*.pxd' \) \
    -exec rm -rf {} + 2>/dev/null || true
rm -rf pyarrow/libarrow_flight* pyarrow/libarrow_python_flight* pyarrow/_flight* pyarrow/libarrow_s3* pyarrow/src
# A wheel holds no links: what is a link elsewhere is the same library three times.
rm -f pyarrow/libarrow_python.so pyarrow/libarrow_python.so.*.*
# Not the libraries of NumPy: their loader's tables were moved, and strip breaks those.
find llvmlite pyarrow numba cryptography -name '*.so*' -type f -exec strip --strip-unneeded {} + 2>/dev/null || true
if [ -d pygments ]; then
    find pygments/lexers -type f ! -name '__init__.*' ! -name '_mapping.*' ! -name 'python.*' -delete
fi
