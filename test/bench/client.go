package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// patience is how long one answer may take: what is measured is never that slow.
const patience = 10 * time.Second

// client is one HTTP/1.1 connection that asks the same again and again.
type client struct {
	conn    net.Conn
	answers *bufio.Reader
	request []byte
	size    int64 // of each answer's body
}

// newClient asks for the app's order over conn, which it owns from now on.
func newClient(conn net.Conn, token string) *client {
	head := "GET " + orderPath + " HTTP/1.1\r\nHost: " + hostName + "\r\n"
	if token != "" {
		head += "Authorization: Bearer " + token + "\r\n"
	}
	return &client{conn, bufio.NewReader(conn), []byte(head + "\r\n"), int64(len(order))}
}

// ask sends one request, and returns when the answer is here whole.
func (c *client) ask() error {
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.Copy(io.Discard, res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || got != c.size) {
		err = fmt.Errorf("the answer is %s with %d bytes, not 200 with %d", res.Status, got, c.size)
	}
	return err
}

func (c *client) close() { _ = c.conn.Close() } // whatever was asked was answered

// dial opens a plain connection for a client.
func dial(address, token string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	return newClient(conn, token), nil
}

// dialTLS opens a connection with a whole new handshake: nothing is resumed.
func dialTLS(address, token string, config *tls.Config) (*client, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
	if err != nil {
		return nil, err
	}
	return newClient(conn, token), nil
}

// closeAll closes what is there.
func closeAll(clients []*client) {
	for _, c := range clients {
		if c != nil {
			c.close()
		}
	}
}
