package session_test

import (
	"os"
	"testing"

	"github.com/reiestr/reiestr/internal/dev/testdb"
)

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }
