#!/bin/sh
# Makes the passwords of compose.yaml's servers, once, in .env beside it. What is there stays.
set -eu
cd "$(dirname "$0")/.."
umask 077
touch .env
chmod 600 .env
[ ! -e deploy/postgres-role.sh ] || chmod a+rx deploy/postgres-role.sh # its container's account reads it
[ -z "$(tail -c 1 .env)" ] || echo >>.env # a last line without an end
for name in POSTGRES_PASSWORD DATABASE_PASSWORD VALKEY_PASSWORD RABBITMQ_PASSWORD; do
  grep -q "^$name=..*" .env && continue
  sed -i "/^$name=\$/d" .env # empty: as good as none
  printf '%s=%s\n' "$name" "$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n')" >>.env
done
