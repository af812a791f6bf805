#!/bin/sh
# Demonstrates the bridge on this machine. Needs only Debian and Rust:
#
#   sh packaging/demo.sh          a page with three desktops (examples/demo); prints its address
#   sh packaging/demo.sh --text   in the terminal; also if there is neither a terminal nor a display
#
# It starts a private PostgreSQL in a temporary directory with Icinga Notifications' tables, the triggers and three users, and the
# real daemon; for the page also a private nginx with the shipped file. The text mode shows the streams of alice and bob, while
# an incident changes every few seconds, written like Icinga does. All programs listen only on this machine.
# Ctrl-C ends everything. Only installed packages and the build in target/ remain.
set -eu
cd "$(dirname "$0")/.."

# Set by the tests: the directory with the programs that they have already built.
built=${DEMO_BUILT:-}
mode=page
[ -t 1 ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || mode=text
case ${1:-} in
  '') ;;
  --text) mode=text ;;
  *) echo "usage: sh packaging/demo.sh [--text]" >&2; exit 2 ;;
esac
# Debian's nginx is there, and not every PATH includes it.
PATH=$PATH:/usr/sbin

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

bindir() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }

missing=
[ -n "$(bindir)" ] || missing="$missing postgresql"
case $mode in
  page) needed="cc:gcc pkg-config:pkg-config nginx:nginx-light" ;;
  text) needed="cc:gcc pkg-config:pkg-config curl:curl" ;;
esac
for pair in $needed; do
  command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
[ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
if [ -n "$missing" ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "Missing packages. As root: apt-get update && apt-get install$missing" >&2
    exit 1
  fi
  say "Installing:$missing"
  # Keeps Debian's packages from starting their services.
  policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
  rm -f $policy
fi
command -v cargo >/dev/null || { echo "Missing Rust: see https://rustup.rs" >&2; exit 1; }
PATH=$(bindir):$PATH

if [ -z "$built" ]; then
  case $mode in
    page) say "Building the daemon and the page"; cargo build --release --locked --bins --example demo ;;
    text) say "Building the daemon"; cargo build --release --locked ;;
  esac
  built=${CARGO_TARGET_DIR:-target}/release
fi
daemon=$built/icinga-desktop-bridge

# PostgreSQL refuses to run as root, so root runs it as the user postgres.
if [ "$(id -u)" -eq 0 ]; then
  as_postgres() { runuser -u postgres -- "$@"; }
else
  as_postgres() { "$@"; }
fi

dir=$(mktemp -d "${TMPDIR:-/tmp}/icinga-desktop-bridge-demo.XXXXXX")
chmod 755 "$dir"
pids=
cleanup() {
  trap - EXIT
  # A closed terminal sends several signals.
  trap '' INT TERM HUP
  for pid in $pids; do kill "$pid" 2>/dev/null || :; done
  wait
  [ ! -e "$dir/data/postmaster.pid" ] || as_postgres pg_ctl -D "$dir/data" -m immediate -s stop || :
  rm -rf "$dir"
  echo
  echo "Demo ended; its files are removed."
}
trap cleanup EXIT
trap 'exit 0' INT TERM HUP

say "Starting a private PostgreSQL in $dir"
mkdir "$dir/data"
[ "$(id -u)" -ne 0 ] || chown postgres "$dir" "$dir/data"
as_postgres initdb -D "$dir/data" -U postgres -A trust -E UTF8 --no-locale --no-sync >"$dir/initdb.log"
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$dir'
unix_socket_permissions = 0700
fsync = off
CONF
as_postgres pg_ctl -D "$dir/data" -w -s -l "$dir/postgres.log" start

sql() { psql -P pager=off -h "$dir" -U postgres -v ON_ERROR_STOP=1 -q -X "$@"; }
sql -d postgres -c 'CREATE DATABASE notifications'
sql -d notifications -f tests/fixtures/schema-1.0.sql
echo "\$ psql -f sql/install.sql"
sql -d notifications -f sql/install.sql
sql -d notifications -c 'CREATE ROLE bridge LOGIN'
sql -d notifications -v role=bridge -f sql/grants.sql

now="(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
for user in alice bob carol; do
  sql -d notifications -c "INSERT INTO contact (full_name, username, default_channel_id, changed_at)
    VALUES ('$user', '$user', 1, $now)"
done
mkdir -p "$dir/icingaweb2/modules/notifications"
cat >"$dir/icingaweb2/resources.ini" <<INI
[notifications]
type = "db"
db = "pgsql"
host = "$dir"
dbname = "notifications"
username = "bridge"
INI

if [ $mode = page ]; then
  say "Starting nginx, the daemon and the page"
  "$built/examples/demo" "$dir" "$daemon" &
  pids=$!
  wait $pids || { cat "$dir/daemon.log" "$dir/nginx.log" >&2; exit 1; }
  exit
fi

say "Signing in alice, bob and carol, as Icinga Web does at login"
for user in alice bob carol; do
  sql -d notifications -c "INSERT INTO browser_session (php_session_id, username, user_agent, authenticated_at)
    VALUES ('demo-session-of-$user-0123', '$user', 'demo', $now)"
done

say "Starting the daemon"
cat >"$dir/icingaweb2/modules/notifications/config.ini" <<INI
[daemon]
host = "127.0.0.1"
port = "0"

[database]
resource = "notifications"
INI
"$daemon" check --config-dir "$dir/icingaweb2"
"$daemon" run --config-dir "$dir/icingaweb2" 2>"$dir/daemon.log" &
pids="$pids $!"
until grep -q 'ready: ' "$dir/daemon.log"; do
  kill -0 "${pids##* }" 2>/dev/null || { cat "$dir/daemon.log" >&2; exit 1; }
  sleep 0.1
done
cat "$dir/daemon.log"
address=$(sed -n 's/.*listening on //p' "$dir/daemon.log")
url=http://$address/icingaweb2/notifications/v1/subscribe

# Follows a user's streams like a browser, and shows the events: the daemon ends a stream soon after an event, and the next
# request acknowledges what was read.
follow() { # follow USER
  : >"$dir/$1"
  while :; do
    id=$(sed -n 's/^id: //p' "$dir/$1" | tail -n 1)
    curl -sN -A demo -b "Icingaweb2=demo-session-of-$1-0123" -H "Last-Event-ID: $id" "$url" | tee -a "$dir/$1" |
      sed -nu "s/^data: {\"time\"/  [$1] &/p"
    sleep 0.2
  done
}

say "Opening the streams of alice and bob"
for user in alice bob; do
  follow $user &
  pids="$pids $!"
done

cat <<TEXT

Try it by hand, in another terminal (the daemon ends the stream when it has written something, and a browser comes back):
  : >stream; while sleep 0.3; do curl -sN -A demo -b Icingaweb2=demo-session-of-carol-0123 \\
    -H "Last-Event-ID: \$(sed -n 's/^id: //p' stream | tail -n 1)" $url | tee -a stream; done
  psql -h $dir -U postgres notifications
    UPDATE incident SET severity = 'emerg' WHERE id = 1;

Ctrl-C ends the demo.
TEXT

# Writes an event like Icinga Notifications: history first, the incident last, in one transaction. After the mail was sent, the
# history row becomes 'sent', which must not show another popup.
change() { # change OBJECT SEVERITY MESSAGE USER...
  object=$1 severity=$2 message=$3
  shift 3
  users=$(printf "'%s'," "$@")
  sql -d notifications <<SQL
BEGIN;
INSERT INTO object (id, source_id, name) VALUES (sha256('$object'), 1, '$object')
  ON CONFLICT DO NOTHING;
INSERT INTO incident (object_id, started_at, severity) SELECT sha256('$object'), $now, '$severity'
  WHERE NOT EXISTS (SELECT FROM incident WHERE object_id = sha256('$object'));
INSERT INTO incident_history (incident_id, time, type, new_severity)
  SELECT id, $now, 'incident_severity_changed', '$severity' FROM incident WHERE object_id = sha256('$object');
INSERT INTO incident_history (incident_id, contact_id, channel_id, time, message, type, notification_state)
  SELECT i.id, c.id, c.default_channel_id, $now, '$message', 'notified', 'pending'
  FROM incident i, contact c WHERE i.object_id = sha256('$object') AND c.username IN (${users%,});
UPDATE incident SET severity = '$severity', message = '$message' WHERE object_id = sha256('$object');
COMMIT;
UPDATE incident_history SET notification_state = 'sent', sent_at = $now WHERE notification_state = 'pending';
SQL
}

sleep 1
while :; do
  say "db1!disk is critical: alice and bob are notified"
  change 'db1!disk' crit 'DISK CRITICAL - free space: / 2%' alice bob
  sleep 3
  say "web1!http is slow: only bob is notified"
  change 'web1!http' warning 'HTTP WARNING - 4.2 s response time' bob
  sleep 3
  say "mail1!queue is down: carol is notified, who has no stream open here"
  change 'mail1!queue' crit 'MAILQ CRITICAL - 8,112 messages' carol
  sleep 3
  say "db1!disk has recovered: only alice is notified"
  change 'db1!disk' ok 'DISK OK - free space: / 60%' alice
  sleep 3
  change 'web1!http' ok 'HTTP OK' bob
  change 'mail1!queue' ok 'MAILQ OK' carol
done
