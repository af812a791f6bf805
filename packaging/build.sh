#!/bin/sh
# Builds the .deb, the .rpm and their SHA256SUMS into target/packages/:
#
#   sh packaging/build.sh
#
# Installs missing cargo tools. The same sources give the same files in any directory, with the same compiler and libraries. The
# .rpm is for systems whose libssl and glibc are the same as or newer than those of the system that builds it.
set -eu
umask 022
cd "$(dirname "$0")/.."
# Where cargo installs programs.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb >/dev/null
cargo generate-rpm --version >/dev/null 2>&1 || cargo install --locked cargo-generate-rpm
cargo auditable --version >/dev/null 2>&1 || cargo install --locked cargo-auditable
# Not optimized, because compiling takes longer than running.
command -v auditable2cdx >/dev/null || cargo install --locked --debug auditable2cdx

out=target/packages
rm -rf "$out"
mkdir -p "$out"

# The time of the last commit, not of the build. The packagers use it, and the C compiler, because mimalloc contains its build
# time.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date -r CHANGELOG.md +%s)}"
export SOURCE_DATE_EPOCH
export TZ=UTC LC_ALL=C.UTF-8

# The daemon contains the list of its crates, and no paths of the machine that built it.
separator=$(printf '\037')
CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$PWD=/source$separator--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo" \
    cargo auditable build --release --locked
auditable2cdx target/release/icinga-desktop-bridge >"$out/icinga-desktop-bridge.cdx.json"

day=$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%d)
# Without that variable, with which the build of the tests would compile the C code again.
env -u SOURCE_DATE_EPOCH cargo run --locked --quiet --example man -- "$day" >"$out/icinga-desktop-bridge.8"
gzip -9n "$out/icinga-desktop-bridge.8"
gzip -9nc CHANGELOG.md >"$out/changelog.gz"

version=$(cargo pkgid --locked | sed 's/.*[#@]//')
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
cat >"$out/changelog.Debian" <<TEXT
icinga-desktop-bridge ($version-1) unstable; urgency=medium

  * What changed: /usr/share/doc/icinga-desktop-bridge/changelog.gz

 -- $maintainer  $(date -R -d "$day")
TEXT

cargo deb --locked --quiet --no-build --output "$out/" >/dev/null
cargo generate-rpm --output "$out/"
rm "$out/changelog.Debian" "$out"/*.gz
cd "$out"
sha256sum ./*.deb ./*.rpm | sed 's|\./||' >SHA256SUMS
ls "$PWD"/*
