#!/bin/sh
# Records the shipped traces again, into a directory (default: traces/ beside this script).
# Needs valgrind, gcc, perl, xz and sqlite3, and vmglue on PATH or in $VMGLUE. Programs of another system give other traces and other hashes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "${1:-$here/traces}" && pwd)
vmglue=${VMGLUE:-vmglue}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cp "$here"/programs/* .
awk 'BEGIN { x = 1; for (i = 0; i < 4000; i++) { x = x * 16807 % 2147483647; print x % 1000003 } }' >numbers.txt
for branch in a b c d e f g h; do
	for twig in 1 2 3 4 5 6 7 8; do
		mkdir -p "tree/$branch/$twig"
		for leaf in 1 2 3 4; do : >"tree/$branch/$twig/file$leaf.txt"; done
	done
done

# The recorded programs see a small fixed environment: it lies on their stacks.
record() {
	name=$1
	shift
	env -i PATH=/usr/bin:/bin LC_ALL=C PYTHONHASHSEED=0 HOME=/ $vmglue capture -o "$out/$name.vmtrace" -- "$@" >/dev/null
}

record pipeline sh -c "seq 1 1200 | awk '{ print \$1 % 97 }' | sort | uniq -c | sort -rn | head -5"
record sort sort -n numbers.txt
record python python3 -S -s index.py 120
record daemon sh daemon.sh 3 4
record cc gcc -S -O0 -o mix.s mix.c
record perl perl wordcount.pl 200
record find find tree -name file3.txt -newer numbers.txt
record gzip gzip -k -f numbers.txt
record xz xz -k -f -0 -T3 --block-size=8KiB numbers.txt
record sqlite sqlite3 :memory: '.read orders.sql'
