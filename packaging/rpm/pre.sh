getent group icingaweb2 >/dev/null || groupadd --system icingaweb2
# For posttrans: whether the replaced package's unit is enabled. That package's own script disables it before posttrans.
if [ "$1" -eq 1 ]; then
  mkdir -p /var/lib/rpm-state
  systemctl is-enabled icinga-desktop-notifications.service >/var/lib/rpm-state/icinga-desktop-bridge 2>/dev/null || :
fi
