// Package test holds the promises that no single room can keep: whole hops,
// end to end, through real sockets and real certificates. A file is named by
// what it promises, and a test by the promise.
package test
