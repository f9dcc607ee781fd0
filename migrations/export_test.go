package migrations

import "context"

// Functions with which tests take single steps, in the way of Up and Down.
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
