// Command fetch gets the foreign programs that it is given the names of, and
// prints where each is. It exits with 1 if one cannot be had.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/everyhop/everyhop/test/tools"
)

func main() {
	cache, err := tools.DefaultCache()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	box := &tools.Box{Cache: cache, Log: os.Stderr}
	status := 0
	for _, name := range os.Args[1:] {
		t, err := box.Get(context.Background(), name)
		if err != nil {
			fmt.Fprintf(os.Stderr, "NOT RUN: what needs %s: %v\n", name, err)
			status = 1
			continue
		}
		fmt.Println(name, t.Path)
	}
	os.Exit(status)
}
