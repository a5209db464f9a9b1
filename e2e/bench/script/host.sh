# Runs on a bare host, as root, and makes of what was copied to /root a host for kubeadm.
set -euo pipefail
cd /root
tar -xzf node/containerd.tar.gz -C /usr/local
install -m 0755 node/runc /usr/local/sbin/runc
mkdir -p /opt/cni/bin /etc/cni/net.d /etc/containerd /etc/systemd/system/kubelet.service.d
tar -xzf node/cni-plugins.tgz -C /opt/cni/bin
install -m 0755 node/kubelet node/kubeadm /usr/local/bin
if [ -d control-plane ]; then install -m 0755 control-plane/kubectl /usr/local/bin; fi
install -m 0644 node/containerd.toml /etc/containerd/config.toml
install -m 0644 node/cni.conflist /etc/cni/net.d/10-flannel.conflist
install -m 0644 node/containerd.service node/kubelet.service /etc/systemd/system
install -m 0644 node/10-kubeadm.conf /etc/systemd/system/kubelet.service.d
printf 'overlay\nbr_netfilter\nvxlan\n' >/etc/modules-load.d/kubernetes.conf
printf 'net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\nnet.bridge.bridge-nf-call-ip6tables = 1\n' >/etc/sysctl.d/90-kubernetes.conf
modprobe -qa overlay br_netfilter vxlan || true # or they are built in
sysctl -qep /etc/sysctl.d/90-kubernetes.conf
systemctl daemon-reload
systemctl enable -q --now containerd
systemctl enable -q kubelet
for image in node/images/*.tar control-plane/images/*.tar; do
	if [ -e "$image" ]; then ctr -n k8s.io images import "$image" >/dev/null; fi
done
