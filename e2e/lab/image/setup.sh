#!/bin/sh
# Runs once, in the new root, after the image's files are in place. Takes out whatever two hosts must not share.
set -eu
chmod 0755 /usr/lib/lab/init /usr/lib/lab/settle
chmod 0440 /etc/sudoers.d/lab

useradd --create-home --shell /bin/bash --uid 1001 ops
useradd --create-home --shell /bin/bash --uid 1002 ops-pw

rm -f /etc/ssh/ssh_host_* /etc/hostname /var/lib/dbus/machine-id
: >/etc/machine-id

systemctl set-default multi-user.target
systemctl enable ssh.service
# No consoles to log in at, no mirror to update from, no disks to check.
systemctl mask getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-remount-fs.service
# The machine's kernel is not the host's to look into.
systemctl mask sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount

apt-get clean
rm -rf /var/lib/apt/lists/* /var/log/bootstrap.log /var/log/apt /var/log/dpkg.log /var/log/alternatives.log
