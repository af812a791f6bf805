getent group icingaweb2 >/dev/null || groupadd --system icingaweb2
