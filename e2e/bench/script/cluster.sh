#!/bin/bash
# A cluster of bare hosts as a script makes it that many have: copy with scp, unpack, install, import the images, kubeadm.
#
#     cluster.sh KIT SSH_CONFIG one-by-one|at-once CONTROL_PLANE WORKER...
#
# KIT/node goes to every host and KIT/control-plane to the control plane, too. At once means: workers are prepared while
# the control plane comes up, and then all join together.
set -euo pipefail
kit=$1 config=$2 way=$3 first=$4
shift 4

on() { ssh -F "$config" "$@"; }
step() { # HOST NAME COMMAND...: tells when it begins and ends
	local host=$1 name=$2
	shift 2
	echo "$host $name begins"
	"$@"
	echo "$host $name ends"
}
copy() { scp -q -r -F "$config" "${@:2}" "$1:/root/"; }
install_files() { on "$1" bash -s <"$kit/host.sh"; }
prepare() { # HOST FOLDER...
	step "$1" copy copy "$@"
	step "$1" install install_files "$1"
}
init() { on "$first" "kubeadm init --config /root/control-plane/kubeadm.yaml --ignore-preflight-errors $IGNORED"; }
network() { on "$first" kubectl --kubeconfig /etc/kubernetes/admin.conf apply -f /root/control-plane/network.json; }
join() { on "$1" "$join_command --ignore-preflight-errors $IGNORED"; }

at_once() { # COMMAND HOST...
	local jobs=() job host
	for host in "${@:2}"; do
		"$1" "$host" &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job"; done
}
prepare_worker() { prepare "$1" "$kit/node"; }
join_worker() { step "$1" join join "$1"; }

workers=("$@")
if [ "$way" = at-once ]; then
	at_once prepare_worker "${workers[@]}" &
	preparing=$!
fi
prepare "$first" "$kit/node" "$kit/control-plane"
step "$first" init init
step "$first" network network
join_command=$(on "$first" kubeadm token create --print-join-command)
if [ "$way" = at-once ]; then
	wait "$preparing"
	at_once join_worker "${workers[@]}"
else
	for host in "${workers[@]}"; do
		prepare_worker "$host"
		join_worker "$host"
	done
fi
