// Package spire holds the promises about identity that only a real SPIRE can put
// to the test: sidecars as processes of different users, an agent and a server
// that die and come back, entries that go, authorities that rotate, and trust
// domains that federate.
//
// Its tests run on Linux only, and do nothing unless EVERYHOP_SPIRE names the
// directory of the binaries spire-server and spire-agent, and the user is root: see
// run.sh.
package spire
