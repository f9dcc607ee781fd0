package session_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/reiestr/reiestr/internal/session"
)

// answering starts a fake server and returns its URL. The server refuses every session with the refusal, or, if that is
// nil, answers every query with one row of the columns.
func answering(t *testing.T, refusal *pgproto3.ErrorResponse, columns ...string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			go answer(conn, refusal, columns)
		}
	}()
	return "postgres://login@" + listener.Addr().String() + "/d?sslmode=disable"
}

func answer(conn net.Conn, refusal *pgproto3.ErrorResponse, columns []string) {
	defer conn.Close()
	server := pgproto3.NewBackend(conn, conn)
	if _, err := server.ReceiveStartupMessage(); err != nil {
		return
	}
	if refusal != nil {
		server.Send(refusal)
		server.Flush() //nolint:errcheck // the client sees it
		return
	}
	server.Send(&pgproto3.AuthenticationOk{})
	server.Send(&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{1, 2, 3, 4}})
	server.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if server.Flush() != nil {
		return
	}
	for {
		message, err := server.Receive()
		if err != nil {
			return
		}
		if _, last := message.(*pgproto3.Sync); !last {
			continue
		}
		var row pgproto3.DataRow
		var described pgproto3.RowDescription
		for _, value := range columns {
			row.Values = append(row.Values, []byte(value))
			described.Fields = append(described.Fields, pgproto3.FieldDescription{Name: []byte("c"), DataTypeOID: 25})
		}
		for _, m := range []pgproto3.BackendMessage{
			&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &described, &row,
			&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'},
		} {
			server.Send(m)
		}
		if server.Flush() != nil {
			return
		}
	}
}

func TestFaultForEachAnswerOfAServer(t *testing.T) {
	t.Parallel()
	settings := slices.Repeat([]string{"?"}, len(app.AllSettings()))
	fit := []string{"7", "170000", "d", "UTF8", "f", "reiestr_app", "origin", "0"}
	with := func(column int, value string) []string {
		row := slices.Clone(fit)
		row[column] = value
		return append(row, settings...)
	}
	for want, columns := range map[string][]string{
		session.ErrPooler.Error():                                with(0, "8"),
		"the server is PostgreSQL 14, and this program needs 15": with(1, "140011"),
		`database "d" is encoded in LATIN1`:                      with(3, "LATIN1"),
		"the server is a standby":                                with(4, "t"),
		`a session is role "login" and not "reiestr_app"`:        with(5, "login"),
		"session_replication_role is replica":                    with(6, "replica"),
		`setting DateStyle of a session is "?"`:                  with(6, "origin"),
	} {
		_, err := open(t, app, answering(t, nil, columns...))
		wantFault(t, err, want)
	}
	for want, refusal := range map[string]*pgproto3.ErrorResponse{
		`login "login" may not become reiestr_app: GRANT reiestr_app TO that login`: {
			Code: "42501", Message: `permission denied to set role "reiestr_app"`,
		},
		"role reiestr_app does not exist": {Code: "22023", Message: `role "reiestr_app" does not exist`},
		session.ErrPooler.Error():         {Code: "08P01", Message: "unsupported startup parameter: role"},
		"is older than PostgreSQL 15": {
			Code: "42704", Message: `unrecognized configuration parameter "idle_session_timeout"`,
		},
	} {
		refusal.Severity, refusal.SeverityUnlocalized = "FATAL", "FATAL"
		_, err := open(t, app, answering(t, refusal))
		wantFault(t, err, want)
	}
}

// TestHostsWithDifferentReasons: if the hosts of a URL fail for different reasons, the error contains each reason.
func TestHostsWithDifferentReasons(t *testing.T) {
	t.Parallel()
	host := func(address string) string {
		_, rest, _ := strings.Cut(address, "@")
		host, _, _ := strings.Cut(rest, "/")
		return host
	}
	full := answering(t, &pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "too many clients already"})
	settings := slices.Repeat([]string{"?"}, len(app.AllSettings()))
	row := []string{"7", "170000", "d", "UTF8", "t", "reiestr_app", "origin", "0"}
	standby := answering(t, nil, append(row, settings...)...)
	_, err := open(t, app, "postgres://login@"+host(full)+","+host(standby)+"/d?sslmode=disable")
	if err == nil || !strings.Contains(err.Error(), "too many clients") || !strings.Contains(err.Error(), "is a standby") {
		t.Errorf("the error is %v", err)
	}
}
