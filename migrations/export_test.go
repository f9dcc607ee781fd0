package migrations

// What tests walk step by step, in the way that Up and Down do.
var (
	PrepareRoles = prepareRoles
	WithProvider = withProvider
)
