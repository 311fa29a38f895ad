# Makes what each server starts with a copy of: the database `warehouse`, owned by the superuser `dbt`, who has no
# password yet and so gets in over the socket only.
set -eu
data=/opt/made/main

# Small pieces of write-ahead log: they are copied, too.
initdb --pgdata="$data" --username=dbt --auth-local=trust --auth-host=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --wal-segsize=1 --no-sync > /dev/null
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
echo 'create database warehouse' | postgres --single -D "$data" postgres > /dev/null
