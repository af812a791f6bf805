# 0: the last version goes. On an upgrade both go on.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
  systemctl --quiet disable --now icinga-notifications-web.socket icinga-notifications-web.service || :
fi
