#!/usr/bin/env bash
# Installs what the tests run and no Python package brings: Debian's Redis, RabbitMQ, MariaDB, PgBouncer, nginx,
# Prometheus and Chromium, and systemd's checker of units.
# The servers are not used as system services: the tests start their own on free ports.
set -euo pipefail

declare -A program=([redis]=/usr/bin/redis-server [rabbitmq]=/usr/lib/rabbitmq/bin/rabbitmq-server
  [mariadb]=/usr/sbin/mariadbd [chromium]=/usr/bin/chromium [pgbouncer]=/usr/sbin/pgbouncer
  [nginx]=/usr/sbin/nginx [systemd]=/usr/bin/systemd-analyze [prometheus]=/usr/bin/prometheus)
declare -A package=([redis]=redis-server [rabbitmq]=rabbitmq-server [mariadb]=mariadb-server
  [chromium]=chromium [pgbouncer]=pgbouncer [nginx]=nginx-light [systemd]=systemd [prometheus]=prometheus)
declare -A given=([redis]=${TEST_REDIS_URL:-} [rabbitmq]=${TEST_RABBITMQ_URL:-}
  [mariadb]=${TEST_MARIADB_URL:-})
without=",${TEST_WITHOUT:-},"

missing=()
for name in redis rabbitmq mariadb chromium pgbouncer nginx systemd prometheus; do
  [ -x "${program[$name]}" ] || [ -n "${given[$name]:-}" ] || [[ $without == *",$name,"* ]] || missing+=("${package[$name]}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
  echo "The tests need ${missing[*]}: install them (apt-get install ${missing[*]}), name running ones in" \
    "TEST_REDIS_URL, TEST_RABBITMQ_URL and TEST_MARIADB_URL, or leave them out by name:" \
    "make test TEST_WITHOUT=redis,rabbitmq,mariadb,chromium,pgbouncer,nginx,systemd,prometheus" >&2
  exit 1
fi
echo "• Installing ${missing[*]} for the tests" >&2
log=$(mktemp)
if ! { "${as_root[@]}" apt-get -qq update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "${missing[*]} could not be installed (see the lines above). Leave them out by name:" \
    "make test TEST_WITHOUT=redis,rabbitmq,mariadb,chromium,pgbouncer,nginx,systemd,prometheus" >&2
  exit 1
fi
rm -f "$log"
