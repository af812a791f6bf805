# 0: the package is being removed. On an upgrade both units keep running.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
  systemctl --quiet disable --now icinga-notifications-web.socket icinga-notifications-web.service || :
fi
