[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || :
# Not started and, unless a preset says otherwise, not enabled: the triggers are not in the database yet.
if [ "$1" -eq 1 ]; then
  systemctl --quiet preset icinga-notifications-web.service icinga-notifications-web.socket || :
fi
