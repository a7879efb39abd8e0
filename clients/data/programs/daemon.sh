# A daemon of the old kind: sleeps, wakes, looks at what it knows, sleeps again.
rounds=$1
pause=$2
log=
while [ "$rounds" -gt 0 ]; do
	sleep "$pause"
	log="$log $rounds"
	for entry in $log; do
		[ "$entry" -lt 100 ] || exit 1
	done
	rounds=$((rounds - 1))
done
