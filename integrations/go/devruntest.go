// Package devruntest gives tests a running stack of devrun and a database of their own.
//
// Everything is asked of the command devrun, so the package holds no protocol and needs no driver. DEVRUN names another
// devrun than the one on PATH. The stack is that of the procfile.toml above the package's directory.
package devruntest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// DB is the database of one test.
type DB struct {
	Name string            `json:"database"`
	URL  string            `json:"url"`
	Env  map[string]string `json:"env"`
}

// Run runs a devrun command and returns its standard output.
func Run(words ...string) ([]byte, error) {
	command := os.Getenv("DEVRUN")
	if command == "" {
		command = "devrun"
	}
	var stderr bytes.Buffer
	run := exec.Command(command, words...)
	run.Stderr = &stderr
	out, err := run.Output()
	if err != nil {
		return nil, fmt.Errorf("devrun %s: %w:\n%s", strings.Join(words, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// Main is the TestMain of a package: the stack is up while the tests run. It is stopped afterwards only if it was down
// before, so packages that are tested at the same time share it when it is up already.
//
//	func TestMain(m *testing.M) { os.Exit(devruntest.Main(m)) }
func Main(m *testing.M) int {
	before := struct {
		Supervisor *int `json:"supervisor_pid"`
	}{}
	out, err := Run("ps", "--json")
	if err == nil {
		err = json.Unmarshal(out, &before)
	}
	if err == nil {
		_, err = Run("up", "-d")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if before.Supervisor == nil {
		if _, err := Run("down"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// Database makes a fresh copy of the stack's database, which is dropped after the test. Service names the Postgres where
// there are several.
func Database(t testing.TB, service ...string) DB {
	t.Helper()
	words := append([]string{"db", "fork"}, service...)
	out, err := Run(append(words, "--pid", strconv.Itoa(os.Getpid()), "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	var made DB
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := Run("db", "drop", made.Name); err != nil {
			t.Error(err)
		}
	})
	return made
}
