# Makes the overlay what a host is on which nobody has installed or configured anything that the tests are about. It runs in
# a chroot of the overlay, so no path and no symbolic link leads back to the host itself. That has no /dev: no /dev/null.
set -eu

# Directories of people. The overlay was mounted without them: they may be big, so removing file by file would take long.
mkdir -m 700 /root
mkdir /home /srv

# --- Accounts ---
# Debian's base, and those of the programs that run in the machine. A list of what is kept, because no list of what is
# removed could name all that hosts have. The kept ones come from this host, with the ids that their files have there.
kept='messagebus|polkitd|postgres|ssl-cert|systemd-[a-z-]+'
accounts() {
    { cat "/usr/share/base-passwd/$1.master"; grep -E "^($kept):" "/etc/$1"; } |
        # Four fields: a group. Its members may be accounts that are gone.
        awk -F : -v OFS=: '{ $2 = "x"; if (NF == 4) $4 = ""; print }'
}
passwd=$(accounts passwd)
group=$(accounts group)
echo "$passwd" >/etc/passwd
echo "$group" >/etc/group
echo "$passwd" | sed 's/:.*/:*:19000:0:99999:7:::/' >/etc/shadow
echo "$group" | sed 's/:.*/:*::/' >/etc/gshadow
# What useradd and groupadd saved, and what they and systemd would make accounts of.
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid /etc/subgid
rm -rf /etc/sysusers.d
# Nor accounts of a directory server, whose client might wait for it.
printf '%s: files systemd\n' passwd group shadow gshadow >/etc/nsswitch.conf
printf '%s: files\n' hosts networks protocols services ethers rpc >>/etc/nsswitch.conf

# --- systemd ---
# All that an administrator can say to it: units, drop-ins, masks, what is enabled, what the journal keeps.
rm -rf /etc/systemd /etc/tmpfiles.d
mkdir -p /etc/systemd/system
rm -f /etc/rc?.d/S*
# It would make the accounts that the host's other packages want.
ln -s /dev/null /etc/systemd/system/systemd-sysusers.service
# Images of containers forbid packages to start anything.
rm -f /usr/sbin/policy-rc.d
: >/etc/machine-id
rm -rf /var/log/journal
for directory in /lib /usr/lib /usr/local/lib; do
    rm -f "$directory"/sysusers.d/*icinga* "$directory"/tmpfiles.d/*icinga* "$directory"/systemd/system-preset/*icinga*
done
# Our units and the web module's, with what dpkg's helpers remember of them. Those of /run are hidden by a new /run.
for directory in /lib/systemd /usr/lib/systemd /usr/local/lib/systemd /var/lib/systemd; do
    [ ! -d "$directory" ] || find "$directory/" -depth \
        \( -name 'icinga-notifications-web.*' -o -name 'icinga-desktop-notifications.*' \) -exec rm -rf {} +
done

# --- Packages ---
# Their files, then dpkg's books, by hand: dpkg itself would run their scripts, which are what is tested.
packages='icinga-desktop-bridge icinga-notifications-web icinga-desktop-notifications'
for package in $packages; do
    for list in "/var/lib/dpkg/info/$package.list" "/var/lib/dpkg/info/$package":*.list; do
        [ -e "$list" ] || continue
        while IFS= read -r file; do
            [ -d "$file" ] || rm -f "$file"
        done <"$list"
    done
    rm -f "/var/lib/dpkg/info/$package".* "/var/lib/dpkg/info/$package":*
done
expression=$(echo "$packages" | tr ' ' '|')
# As cp and not mv, so that owner and mode stay.
edit() { awk "$@" >"$file.new" <"$file" && cp "$file.new" "$file" && rm "$file.new"; }
file=/var/lib/dpkg/status
edit -v RS= -v ORS='\n\n' "!/^Package: ($expression)\n/"
file=/var/lib/dpkg/diversions
# Three lines each: from, to, whose.
edit "NR % 3 == 1 { from = \$0 } NR % 3 == 2 { to = \$0 } NR % 3 == 0 && !/^($expression)\$/ { print from; print to; print }"
# dpkg refuses to run while one of these names an account that is gone.
: >/var/lib/dpkg/statoverride
# For example not to unpack documentation.
rm -rf /etc/dpkg/dpkg.cfg.d
rm -rf /var/lib/rpm /var/lib/rpm-state/icinga-desktop-bridge /usr/lib/sysimage/rpm /.rpmdb
# What the commands of doc/install.md created.
rm -rf /usr/bin/icinga-desktop-bridge /usr/local/bin/icinga-desktop-bridge /usr/share/icinga-desktop-bridge \
    /usr/share/doc/icinga-desktop-bridge /usr/share/licenses/icinga-desktop-bridge /usr/share/man/man8/icinga-desktop-bridge.*

# --- Configuration ---
# That of nginx and Apache stays: the tests start nginx with a file of their own, and no Apache.
rm -rf /etc/icingaweb2 /etc/postgresql /etc/postgresql-common
