//go:build !unix

package h1

import "syscall"

// isQuietSocket cannot look here.
func isQuietSocket(syscall.Conn) bool { return true }
