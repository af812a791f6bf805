#!/bin/sh
# The one test command: installs what is missing, then formatting, lints, licences, documentation, all tests, and
# those that PostgreSQL's version matters to on every major.
#
#   sh tests/run.sh
#
# Tests start private PostgreSQL servers in temporary directories; no server of this machine is touched.
set -eu
cd "$(dirname "$0")/.."

missing=
have() { command -v "$1" >/dev/null 2>&1; }
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
have cc || missing="$missing gcc"
have pkg-config || missing="$missing pkg-config"
[ -e /usr/include/openssl/ssl.h ] || missing="$missing libssl-dev"
have curl || missing="$missing curl"
# Fetches the other PostgreSQL majors, and Grafana's types.
have npm || missing="$missing npm"
have openssl || missing="$missing openssl"
[ -x /usr/sbin/apache2 ] || missing="$missing apache2"
[ -x /usr/sbin/nginx ] || missing="$missing nginx-light"
have chromium || missing="$missing chromium"
have chromedriver || missing="$missing chromium-driver"
have firefox-esr || missing="$missing firefox-esr"
{ have ip || [ -x /usr/sbin/ip ]; } || missing="$missing iproute2"
# Debian's package starts a service on port 6432; the tests run their own on other ports. Not in every PATH.
have pgbouncer || [ -x /usr/sbin/pgbouncer ] || missing="$missing pgbouncer"
# What the packages are looked at with, and what boots the systemd that they are installed in.
have lintian || missing="$missing lintian"
have rpm || missing="$missing rpm"
have dnf || missing="$missing dnf"
have createrepo_c || missing="$missing createrepo-c"
have mandoc || missing="$missing mandoc"
have groff || missing="$missing groff-base"
have col || missing="$missing bsdextrautils"
have systemd-nspawn || missing="$missing systemd-container"
# A policy of SELinux, which is read and not loaded, and what reads it.
[ -e /usr/share/selinux/default/base.pp.bz2 ] || missing="$missing selinux-policy-default"
have seinfo || missing="$missing setools"
have matchpathcon || [ -x /usr/sbin/matchpathcon ] || missing="$missing selinux-utils"
# What releases are signed with.
have gpg || missing="$missing gpg"
have gpg-agent || missing="$missing gpg-agent"
# The next Debian, which the .deb is installed in.
have mmdebstrap || missing="$missing mmdebstrap"
# What the configuration for Icinga is checked with, and runs the plugin. Not in every PATH.
[ -x /usr/sbin/icinga2 ] || missing="$missing icinga2-bin"
# What the alerts are checked with, and the real one that asks the daemon.
have promtool || missing="$missing prometheus"
# What Icinga Director runs with.
have php || missing="$missing php-cli"
for name in curl intl mbstring pgsql xml; do
  php -m 2>/dev/null | grep -qx $name || missing="$missing php-$name"
done
# Ansible comes from PyPI; the role's hosts need Debian's module for packages.
/usr/bin/python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
/usr/bin/python3 -c 'import apt' 2>/dev/null || missing="$missing python3-apt"
if [ -n "$missing" ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "Missing packages. As root: apt-get update && apt-get install$missing" >&2
    exit 1
  fi
  # Only for tests, which run them by themselves: nobody asked for another Icinga or Prometheus that runs here.
  for name in icinga2 prometheus; do
    case $missing in
      *$name*) mkdir -p /etc/systemd/system && ln -sf /dev/null /etc/systemd/system/$name.service ;;
    esac
  done
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi
have cargo || { echo "Missing Rust 1.91 or newer: see https://rustup.rs" >&2; exit 1; }
cargo deny --version >/dev/null 2>&1 || cargo install cargo-deny --locked
# Checks spelling; _typos.toml has its exceptions. Not optimized, because it is compiled more slowly than it runs.
have typos || cargo install typos-cli --version 1.52.0 --locked --debug
# Firefox's driver, which Debian does not have.
have geckodriver || cargo install geckodriver --locked
# Icinga Director, which imports the basket: unpacked and not installed, because that would make Icinga Web's accounts and files.
if [ ! -e target/director/usr/bin/icingacli ]; then
  [ "$(id -u)" -ne 0 ] || apt-get update -qq
  unpacked=$(mktemp -d)
  (
    cd "$unpacked"
    apt-get download -qq icinga-php-library icinga-php-thirdparty icingacli icingaweb2 icingaweb2-common php-icinga \
      icingaweb2-module-director icingaweb2-module-incubator icingaweb2-module-reactbundle
    for package in *.deb; do dpkg-deb --extract "$package" root; done
  )
  mkdir -p target
  rm -rf target/director
  cp -r "$unpacked/root" target/director
  rm -rf "$unpacked"
fi
# What the dashboard is checked with.
[ tests/grafana/node_modules/.package-lock.json -nt tests/grafana/package-lock.json ] \
  || npm ci --silent --no-audit --no-fund --prefix tests/grafana
# Copied into the machine that the role is tried on, which has no network.
[ -d target/ansible ] || /usr/bin/python3 -m pip install --quiet --root-user-action=ignore --target target/ansible 'ansible-core==2.19.*'

# Everything is built once here, so what incremental builds store is of no use.
export CARGO_INCREMENTAL=0
# Tests wait for databases, streams and timers most of the time, so there are more of them at once than processors.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-6}"

step() { printf '\n== %s\n' "$*"; }
step formatting
cargo fmt --check
step lints
typos
cargo clippy --locked --all-targets -- -D warnings
step licences
cargo deny --log-level error check licenses bans sources
step documentation
RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --locked --no-deps --document-private-items --quiet
step tests
cargo test --locked --no-run
others=
for main in tests/*/main.rs; do
  name=$(basename "$(dirname "$main")")
  case $name in browsers | machines) ;; *) others="$others --test $name" ;; esac
done
# shellcheck disable=SC2086 # Words.
cargo test --locked --lib --bins --examples $others
cargo test --locked --doc
# By themselves, and fewer at once: a browser that gets no processor comes back late, and is then sent again what it has read.
step browsers
RUST_TEST_THREADS=4 cargo test --locked --test browsers
step machines
cargo test --locked --test machines
step PostgreSQL majors
sh tests/postgres-majors.sh
