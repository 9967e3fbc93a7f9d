# Runs commands of a boot test as root. Added to a guest by credentials at test time; no image carries it.
# Request: one line "ID SECONDS BASE64(command)"; answer: one line "ID STATUS BASE64(output)".
port=$1
while [ ! -e "$port" ]; do sleep 0.1; done
exec 3<>"$port"
while :; do
    # with nobody connected the port reads as ended: look again a little later
    IFS=' ' read -r id seconds command <&3 || { sleep 0.2; continue; }
    [ -n "$command" ] || continue
    script=$(base64 -d <<<"$command" 2>/dev/null) || continue
    # into a file, not a pipe: what a command leaves running in the background would hold a pipe open
    output=/run/seatsmith-agent.$id
    timeout -k 2 "$seconds" bash -c "$script" 3>&- </dev/null >"$output" 2>&1
    status=$?
    answer=$(base64 -w0 "$output")
    rm -f "$output"
    printf '\n%s %s %s\n' "$id" "$status" "${answer:--}" >&3
done
