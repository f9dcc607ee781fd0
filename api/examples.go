package api

import (
	"time"

	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// What the examples speak of.
var (
	exampleClinic  = uuid.MustParse("8be63914-a278-470b-b868-1af5b9087332")
	exampleUser    = uuid.MustParse("3f6c1b9e-5d0a-4a52-9a3f-0d1f7c2b8e61")
	exampleDoctor  = uuid.MustParse("c5a1d9f0-7b2e-4c63-8d4f-1e0a9b8c7d65")
	examplePatient = uuid.MustParse("70a9e15b-b71b-4caf-8f2e-ff247e8a5677")
	exampleRequest = uuid.MustParse("1f4a0a9c-3f83-4b2c-9a57-6c1f0f6fd0b2")
	exampleJob     = uuid.MustParse("0b1f9ad0-8d43-4a63-9b5c-0a9b3c1f7d11")
	exampleMoment  = time.Date(2026, 2, 28, 10, 15, 30, 123456000, time.UTC)
)

func exampleLicenseFields() db.LicenseFields {
	number, what, order := "АЕ 123456", "обіг наркотичних засобів", "К-123"
	expiry := time.Date(2031, 1, 31, 0, 0, 0, 0, time.UTC)
	return db.LicenseFields{
		Type: "PHARMACY_DRUGS", LicenseNumber: &number, IssuedBy: "Держлікслужба", IssuedDate: time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC),
		ExpiryDate: &expiry, ActiveFromDate: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC), WhatLicensed: &what, OrderNo: &order,
	}
}

func exampleLicenseCreation() LicenseCreation {
	f := exampleLicenseFields()
	return LicenseCreation{
		Type: f.Type, IssuedBy: f.IssuedBy, IssuedDate: Date{f.IssuedDate}, ActiveFromDate: Date{f.ActiveFromDate}, ExpiryDate: &Date{*f.ExpiryDate},
		LicenseNumber: f.LicenseNumber, WhatLicensed: f.WhatLicensed, OrderNo: f.OrderNo,
	}
}

func exampleLicenseUpdate() LicenseUpdate {
	f := exampleLicenseFields()
	return LicenseUpdate{Type: f.Type, ExpiryDate: &Date{*f.ExpiryDate}, OrderNo: f.OrderNo}
}

func exampleLicense() License {
	return licenseAnswer(db.License{
		LicenseFields: exampleLicenseFields(), ID: uuid.MustParse("a6b2f9a1-0c1d-4e53-9f1e-6f2d6c7b8a90"), LegalEntityID: exampleClinic, IsActive: true,
		InsertedAt: exampleMoment, InsertedBy: exampleUser, UpdatedAt: exampleMoment, UpdatedBy: exampleUser,
	})
}

func exampleUse() ServiceRequestUse {
	return ServiceRequestUse{UsedByLegalEntity: *reference("legal_entity", exampleClinic), UsedByEmployee: reference("employee", exampleDoctor)}
}

func exampleCompletion() ServiceRequestCompletion {
	return ServiceRequestCompletion{
		CompletedWith:  reference("encounter", uuid.MustParse("e2c1a0b9-8d7f-4e6a-9b5c-4d3e2f1a0b9c")),
		ProgramService: reference("program_service", uuid.MustParse("f3d2b1ca-9e80-4f7b-8c6d-5e4f3a2b1c0d")),
		StatusReason:   &CodeableConcept{Coding: []Coding{{completeReasons, "default"}}},
	}
}

func examplePendingJob() Job {
	return jobAnswer(db.Job{ID: exampleJob, Status: db.Pending, ETA: exampleMoment})
}

func exampleProcessedJob() Job {
	return jobAnswer(db.Job{Status: db.Processed, ETA: exampleMoment, PatientID: examplePatient, ServiceRequestID: exampleRequest})
}

func exampleServiceRequest() ServiceRequest {
	active, isNew, queued := "active", "new", "in_queue"
	answer, err := serviceRequestAnswer(db.ServiceRequest{
		ID: exampleRequest, Requisition: "0000-12H4-EXC5-4X6P", PatientID: examplePatient, Status: active,
		ProgramID:               uuid.NullUUID{UUID: uuid.MustParse("5d2b7c5e-4a86-4c7d-8a9a-6b3f1d0e2c48"), Valid: true},
		ProgramProcessingStatus: &queued, UsedByLegalEntityID: uuid.NullUUID{UUID: exampleClinic, Valid: true},
		UsedByEmployeeID: uuid.NullUUID{UUID: exampleDoctor, Valid: true}, Category: "counselling",
		RequesterLegalEntityID: uuid.NullUUID{UUID: uuid.MustParse("b1c2d3e4-f5a6-4b7c-8d9e-0f1a2b3c4d5e"), Valid: true},
		ExpirationDate:         exampleMoment.AddDate(1, 0, 0),
		Content:                []byte(`{"intent": "order", "priority": "routine"}`),
		History: []db.HistoryItem{
			{Status: &active, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{ProgramProcessingStatus: &isNew, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{ProgramProcessingStatus: &queued, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{UsedByLegalEntity: &exampleClinic, InsertedAt: exampleMoment, InsertedBy: exampleUser},
			{UsedByEmployee: &exampleDoctor, InsertedAt: exampleMoment, InsertedBy: exampleUser},
		},
		InsertedAt: exampleMoment, UpdatedAt: exampleMoment,
	})
	if err != nil {
		panic(err) // it is the same at every start
	}
	return answer
}
