# After a replaced package was removed, which disables and stops the unit with the service's alias. Only on a first installation.
state=/var/lib/rpm-state/icinga-desktop-bridge
[ -e "$state" ] || exit 0
displaced=$(cat "$state")
rm -f "$state"
rmdir /var/lib/rpm-state 2>/dev/null || :
service=icinga-notifications-web.service
socket=icinga-notifications-web.socket
# Not started: the triggers may not be in the database yet.
case $displaced in
enabled*)
  # systemd cannot read config.ini: if that sets host or port, the service listens itself.
  settings=$(icinga-desktop-bridge check --config-only 2>/dev/null) || settings=
  case $settings in
  "" | *"daemon.host = [::],127.0.0.1
daemon.port = 9001,5664"*) systemctl --quiet enable "$service" "$socket" || : ;;
  *) systemctl --quiet enable "$service" || : ;;
  esac
  ;;
disabled) ;;
*) systemctl --quiet preset "$service" "$socket" || : ;;
esac
