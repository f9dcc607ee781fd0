package api

import (
	"time"

	"github.com/google/uuid"
)

// The ids and the time in the examples of the OpenAPI document.
var (
	exampleClinic  = uuid.MustParse("8be63914-a278-470b-b868-1af5b9087332")
	exampleUser    = uuid.MustParse("3f6c1b9e-5d0a-4a52-9a3f-0d1f7c2b8e61")
	exampleDoctor  = uuid.MustParse("c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65")
	examplePatient = uuid.MustParse("70a9e15b-b71b-4caf-8f2e-ff247e8a5677")
	exampleRequest = uuid.MustParse("1f4a0a9c-3f83-4b2c-9a57-6c1f0f6fd0b2")
	exampleJob     = uuid.MustParse("0b1f9ad0-8d43-4a63-9b5c-0a9b3c1f7d11")
	exampleMoment  = time.Date(2026, 2, 28, 10, 15, 30, 123456000, time.UTC)
)
