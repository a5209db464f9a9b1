#!/usr/bin/env bash
# From this source tree to a running cluster of three hosts on this machine; `make demo` builds the binaries and runs it.
# It does nothing that a user could not type. Every step can be repeated, so the script can be, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir=.lab/demo
document=$dir/cluster.yaml
kubeconfig=$dir/admin.conf
kubectl=$dir/kubectl

step() { printf '\n==> %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

step 'Kubernetes, built from its Go modules into a bundle: some minutes the first time, then cached'
echo '$ bin/lab bundle'
bundle=$(bin/lab bundle)
echo "$bundle"

step 'Three hosts with systemd and sshd and nothing of Kubernetes'
run bin/lab up --hosts 3 --dir "$dir"

step 'The control plane'
run bin/myadm init -f "$document" --bundle "$bundle" --kubeconfig-out "$kubeconfig"

step 'The other two hosts, both at once'
run bin/myadm join -f "$document" --bundle "$bundle"

step 'The cluster, by the kubectl of the bundle, which a control plane has'
ssh -F "$dir/ssh_config" h1 cat /usr/local/bin/kubectl >"$kubectl"
chmod 755 "$kubectl"
run "$kubectl" --kubeconfig "$kubeconfig" -n kube-system rollout status deployment/coredns --timeout 2m
run "$kubectl" --kubeconfig "$kubeconfig" get nodes -o wide

cat <<EOF

The cluster is up, after $SECONDS s. Its kubeconfig is $kubeconfig.

Look around:
  $kubectl --kubeconfig $kubeconfig get pods -A
  ssh -F $dir/ssh_config h1

Run it again, and nothing changes:
  bin/myadm join -f $document --bundle $bundle

Take a worker out of the cluster:
  bin/myadm reset h3 -f $document

Remove the hosts:
  bin/lab down --dir $dir
EOF
