# The server of one database `warehouse`, owned by the superuser `dbt`; POSTGRES_PASSWORD is its password.
#
# While the file /data/paused exists there is no server, and connections are refused; the data stays. So an outage
# of a warehouse can be had without a new pod: `touch /data/paused && pg_ctl stop -D /data/main -m immediate`.
set -eu
data=/data/main

if [ ! -e "$data" ]; then
    rm -rf "$data.new"
    cp -R /opt/made/main "$data.new"
    password=$(printf '%s' "${POSTGRES_PASSWORD:?is not set}" | sed "s/'/''/g")
    printf "alter user dbt password '%s'\n" "$password" | postgres --single -D "$data.new" postgres > /dev/null
    unset password
    mv "$data.new" "$data" # whole, or not at all
fi

unset POSTGRES_PASSWORD
# As the first process of its container a shell ignores SIGTERM unless it says what to do; the server itself would
# wait until the last client has gone.
stopping=
trap 'stopping=yes; pg_ctl stop --pgdata="$data" --silent --no-wait --mode=fast || true' TERM INT
while [ -z "$stopping" ]; do
    if [ ! -e /data/paused ]; then
        postgres -D "$data" &
        wait $! || true
        # A signal ends `wait` before the server has ended.
        wait || true
    fi
    [ -n "$stopping" ] || sleep 0.2
done
