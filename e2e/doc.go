// Package e2e proves what users are promised, on real hosts and through the built binary alone: it starts hosts with
// e2e/lab, runs myadm on them as a user would, and looks at the hosts, at the API and at what was printed.
//
// The tests have the build tag e2e and take the whole machine; `make e2e` runs them. Each starts the hosts it needs, so
// one can be run alone with -run. They run one after the other: the hosts share two cores.
package e2e
