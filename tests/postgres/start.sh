# The server of one database `warehouse`, owned by the superuser `dbt`; POSTGRES_PASSWORD is its password.
#
# While the file /data/paused exists there is no server, and connections are refused; the data stays. So an outage
# of a warehouse can be had without a new pod: `touch /data/paused && pg_ctl stop -D /data/main -m immediate`.
set -eu
data=/data/main

if [ ! -s "$data/PG_VERSION" ]; then
    printf '%s' "${POSTGRES_PASSWORD:?is not set}" > /data/password
    initdb --pgdata="$data" --username=dbt --pwfile=/data/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8 --no-sync > /dev/null
    rm /data/password
    echo 'host all all all scram-sha-256' >> "$data/pg_hba.conf"
    # Without fsync the kernel's memory is the disk, which outlives the server but not the machine. But commits stay
    # synchronous: what the server has confirmed has to be there after it was stopped without warning.
    cat >> "$data/postgresql.conf" <<'EOF'
listen_addresses = '*'
unix_socket_directories = '/data'
max_connections = 100
shared_buffers = 32MB
fsync = off
full_page_writes = off
autovacuum = off
log_line_prefix = '%m [%p] %a '
EOF
    # Connections over the network are not accepted before the database is there.
    pg_ctl start --pgdata="$data" --silent --wait --options="-c listen_addresses=''"
    createdb --maintenance-db=postgres warehouse
    pg_ctl stop --pgdata="$data" --silent --wait
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
