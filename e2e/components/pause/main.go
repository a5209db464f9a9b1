// Command pause is the first process of every pod's sandbox. It holds the pod's namespaces open and does nothing else,
// except for what the first process of a PID namespace owes the others when the pod's containers share it: reaping
// orphans. With -v it says what it is and ends, by which kubeadm sees that a cluster runs pods.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "-v" {
		_, _ = os.Stdout.WriteString("pause\n") // there is nobody to tell
		return
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			return
		}
		// One signal may stand for several children.
		for pid := 1; pid > 0; {
			pid, _ = syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		}
	}
}
