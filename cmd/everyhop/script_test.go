package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"everyhop": main})
}

// Each script is a session at a shell: what is typed, and what comes back.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			// Sockets have short paths: sun_path is 108 bytes.
			dir, err := os.MkdirTemp("", "eh")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("SHORT", dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"free-ports": freePorts,
			"take-port":  takePort,
			"await":      await,
			"signal":     signalTo,
			"stderr-is":  stderrIs,
		},
	})
}

// freePorts puts free ports into the named variables: free-ports INBOUND ADMIN
func freePorts(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer ln.Close() // together, so that they differ
		ts.Setenv(name, fmt.Sprint(ln.Addr().(*net.TCPAddr).Port))
	}
}

// takePort holds a port until the script ends, and puts it into the variable:
// take-port TAKEN
func takePort(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { ln.Close() })
	ts.Setenv(args[0], fmt.Sprint(ln.Addr().(*net.TCPAddr).Port))
}

// await waits for a file or a socket, or for a URL that answers 200: await PLACE
func await(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := there(ts, args[0])
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("never came: %v", err)
		}
	}
}

func there(ts *testscript.TestScript, place string) error {
	if !strings.HasPrefix(place, "http://") {
		_, err := os.Stat(ts.MkAbs(place))
		return err
	}
	answer, err := http.Get(place)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", place, answer.Status)
	}
	return nil
}

// signalTo sends a signal to the background command whose arguments have the
// word: signal HUP run
func signalTo(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	for _, cmd := range ts.BackgroundCmds() {
		if slices.Contains(cmd.Args, args[1]) {
			ts.Check(cmd.Process.Signal(signals[args[0]]))
			return
		}
	}
	ts.Fatalf("no background command is %s", args[1])
}

// stderrIs wants exactly the lines of a file on standard error, with variables
// expanded: stderr-is want.txt
func stderrIs(ts *testscript.TestScript, _ bool, args []string) {
	want := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	if got := ts.ReadFile("stderr"); got != want {
		ts.Fatalf("standard error of the last command:\n%swant (%s):\n%s", got, filepath.Base(args[0]), want)
	}
}
