if [ "$1" -eq 0 ]; then
  # The package owns only files, because cargo-generate-rpm 0.21 cannot include directories.
  for directory in share share/doc share/licenses; do
    [ ! -d "/usr/$directory/icinga-desktop-bridge" ] ||
      find "/usr/$directory/icinga-desktop-bridge" -depth -type d -empty -delete
  done
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
# After an upgrade. The socket is not restarted: it keeps the ports open.
if [ "$1" -ge 1 ]; then
  systemctl try-restart icinga-notifications-web.service || :
fi
