package db

// Joined tells how many acceptances wait for the next group.
func (j *Jobs) Joined() int {
	j.intake.mu.Lock()
	defer j.intake.mu.Unlock()
	return len(j.intake.waiting)
}
