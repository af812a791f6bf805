if [ "$1" -eq 0 ]; then
  # The package owns files only: cargo-generate-rpm 0.21 cannot put directories into it.
  for directory in share share/doc share/licenses; do
    [ ! -d "/usr/$directory/icinga-desktop-bridge" ] ||
      find "/usr/$directory/icinga-desktop-bridge" -depth -type d -empty -delete
  done
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
# After an upgrade. The socket is left alone: it holds the port meanwhile.
if [ "$1" -ge 1 ]; then
  systemctl try-restart icinga-notifications-web.service || :
fi
