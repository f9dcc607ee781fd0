package session

var (
	ErrNoURL  = errNoURL
	ErrPooler = errPooler
)

func (w Wanted) AllSettings() map[string]string { return w.settings() }
