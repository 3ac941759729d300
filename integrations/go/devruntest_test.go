package devruntest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const procfile = `[project]
name = "shop"
[services.db]
use = "postgres"
port = "auto"
user = "app"
database = "app"
init = ["10.sql"]
`

func TestMain(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "devrun-go-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(folder)
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
				panic(err)
			}
		}
		write("procfile.toml", procfile)
		write("10.sql", "create table orders (id int); insert into orders values (1), (2), (3);")
		if err := os.Chdir(folder); err != nil {
			panic(err)
		}
		code := Main(m)
		if out, err := Run("ps", "--json"); err != nil || !strings.Contains(string(out), `"supervisor_pid":null`) {
			panic("the stack was not stopped again: " + string(out))
		}
		return code
	}())
}

func ask(t *testing.T, url, sql string) string {
	t.Helper()
	out, err := exec.Command("psql", "-X", "-A", "-t", "-q", "-c", sql, url).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestEachHasItsOwn(t *testing.T) {
	for _, name := range []string{"one", "two", "three"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := Database(t)
			if db.Env["DATABASE_URL"] != db.URL {
				t.Errorf("%q is not %q", db.Env["DATABASE_URL"], db.URL)
			}
			if found := ask(t, db.URL, "select count(*) from orders"); found != "3" {
				t.Errorf("%s rows", found)
			}
			ask(t, db.URL, "delete from orders")
		})
	}
}

func TestDatabasesAreDropped(t *testing.T) {
	t.Run("makes one", func(t *testing.T) { Database(t, "db") })
	if out, err := Run("db", "list", "--json"); err != nil || strings.TrimSpace(string(out)) != "[]" {
		t.Errorf("%v: %s", err, out)
	}
}
