package migrations

import "context"

// What tests walk step by step, in the way that Up and Down do.
var (
	PrepareRoles = prepareRoles
	Connect      = connect
	OpenAsOwner  = openAsOwner
	WithProvider = withProvider
	Split        = split
	Words        = words
)

// ReadStatement is the plan of one statement.
func ReadStatement(ctx context.Context, url, sql string) (PlannedStatement, error) {
	known, err := readCatalogue(ctx, url)
	if err != nil {
		return PlannedStatement{}, err
	}
	return known.read(sql), nil
}
