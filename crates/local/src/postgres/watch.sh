# Runs a command and interrupts it when standard input ends. The other end of standard input is a pipe that the
# starting process holds. The kernel closes it however that process ends, so the command never outlives it. The
# interrupt is repeated, because an interrupt that comes before the command has installed its handler is lost (a shell
# starts background commands with SIGINT ignored).
exec 3<&0 </dev/null
"$@" 3<&- &
command=$!
( read -r _ <&3; while kill -INT "$command"; do sleep 0.1; done ) 2>/dev/null &
watcher=$!
wait "$command"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
