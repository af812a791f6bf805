#!/bin/sh
# Builds the .deb and the .rpm into target/packages/:
#
#   sh packaging/build.sh
#
# Installs cargo-deb and cargo-generate-rpm if they are missing. The .rpm is for systems with the same libssl and glibc, or
# newer ones, as the system that it is built on.
set -eu
cd "$(dirname "$0")/.."

cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb >/dev/null
cargo generate-rpm --version >/dev/null 2>&1 || cargo install --locked cargo-generate-rpm

out=target/packages
rm -rf "$out"
mkdir -p "$out"

cargo build --release --locked

# The day of what is built, not of the building: the same sources give the same files.
day=$(git log -1 --format=%cd --date=short 2>/dev/null) || day=$(date -r CHANGELOG.md +%Y-%m-%d)
cargo run --locked --quiet --example man -- "$day" >"$out/icinga-desktop-bridge.8"
gzip -9n "$out/icinga-desktop-bridge.8"
gzip -9nc CHANGELOG.md >"$out/changelog.gz"

version=$(cargo pkgid --locked | sed 's/.*[#@]//')
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
cat >"$out/changelog.Debian" <<TEXT
icinga-desktop-bridge ($version-1) unstable; urgency=medium

  * What changed: /usr/share/doc/icinga-desktop-bridge/changelog.gz

 -- $maintainer  $(date -R -u -d "$day")
TEXT

cargo deb --locked --quiet --no-build --output "$out/" >/dev/null
cargo generate-rpm --output "$out/"
rm "$out/changelog.Debian" "$out"/*.gz
ls "$out"/*.deb "$out"/*.rpm
