package demo

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// seen is what an app received, which is also what it answers.
type seen struct {
	Service string            `json:"service"`
	Request string            `json:"request"` // method and target
	Header  map[string]string `json:"header"`  // names in lower case
}

// app is a service without a thought of security: it serves whoever reaches it.
type app struct {
	name     string
	listener net.Listener
	http     *http.Server
	served   atomic.Int64
	ended    chan error
}

func openApp(name string) (*app, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &app{name: name, listener: ln, ended: make(chan error, 1)}
	a.http = &http.Server{Handler: a, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go a.serve()
	return a, nil
}

func (a *app) serve() { a.ended <- a.http.Serve(a.listener) }

func (a *app) close() error {
	err := a.http.Close()
	if ended := <-a.ended; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.served.Add(1)
	answer := seen{Service: a.name, Request: r.Method + " " + r.RequestURI, Header: map[string]string{}}
	for name, values := range r.Header {
		answer.Header[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(answer) // whoever asked went away
}
