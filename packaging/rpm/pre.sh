getent group icingaweb2 >/dev/null || groupadd --system icingaweb2
# For posttrans: whether the unit of the package that this one displaces is enabled. Its own script disables it before that.
if [ "$1" -eq 1 ]; then
  mkdir -p /var/lib/rpm-state
  systemctl is-enabled icinga-desktop-notifications.service >/var/lib/rpm-state/icinga-desktop-bridge 2>/dev/null || :
fi
