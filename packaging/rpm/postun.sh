[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
# After an upgrade. The socket is left alone: it holds the port meanwhile.
if [ "$1" -ge 1 ]; then
  systemctl try-restart icinga-notifications-web.service || :
fi
