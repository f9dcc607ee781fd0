package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/db"
)

// License is a licence of a legal entity (contract, section 3).
type License struct {
	ID             uuid.UUID `json:"id" format:"uuid"`
	LegalEntityID  uuid.UUID `json:"legal_entity_id" format:"uuid"`
	Type           string    `json:"type" doc:"Dictionary LICENSE_TYPE"`
	IsActive       bool      `json:"is_active"`
	IsPrimary      bool      `json:"is_primary"`
	LicenseNumber  *string   `json:"license_number"`
	IssuedBy       string    `json:"issued_by"`
	IssuedDate     Date      `json:"issued_date"`
	IssuerStatus   *string   `json:"issuer_status"`
	ExpiryDate     *Date     `json:"expiry_date" doc:"Null: never expires"`
	ActiveFromDate Date      `json:"active_from_date"`
	WhatLicensed   *string   `json:"what_licensed"`
	OrderNo        *string   `json:"order_no"`
	InsertedAt     time.Time `json:"inserted_at"`
	InsertedBy     uuid.UUID `json:"inserted_by" format:"uuid" doc:"User id"`
	UpdatedAt      time.Time `json:"updated_at"`
	UpdatedBy      uuid.UUID `json:"updated_by" format:"uuid" doc:"User id"`
}

// LicenseCreation is the body of POST /api/licenses. Unknown keys are ignored.
type LicenseCreation struct {
	_              struct{} `json:"-" additionalProperties:"true"`
	Type           string   `json:"type" maxLength:"255" pattern:"^[^\\x00]*$" doc:"Dictionary LICENSE_TYPE, as far as the type of the legal entity allows" example:"PHARMACY_DRUGS"`
	IsPrimary      bool     `json:"is_primary" doc:"Only false can be created" example:"false"`
	IssuedBy       string   `json:"issued_by" maxLength:"1000" pattern:"^[^\\x00]*$" example:"Держлікслужба"`
	IssuedDate     Date     `json:"issued_date" doc:"Not after active_from_date"`
	ActiveFromDate Date     `json:"active_from_date" doc:"Not after expiry_date"`
	ExpiryDate     *Date    `json:"expiry_date,omitempty" doc:"Today or later; absent: never expires"`
	LicenseNumber  *string  `json:"license_number,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" example:"АЕ 123456"`
	WhatLicensed   *string  `json:"what_licensed,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" example:"реалізація наркотичних засобів"`
	OrderNo        *string  `json:"order_no,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" example:"К-123"`
}

type createLicenseInput struct {
	Body LicenseCreation
}

type licenseOutput struct {
	Body Envelope[License]
}

func (s *server) registerLicenses() {
	register(s, endpoint[createLicenseInput, licenseOutput]{
		Operation: huma.Operation{
			OperationID:   "createLicense",
			Method:        http.MethodPost,
			Path:          "/api/licenses",
			DefaultStatus: http.StatusCreated,
			Tags:          []string{"Licences"},
			Summary:       "Create an additional licence",
			Description: "Registers an additional licence for the caller's legal entity. Checks, in this order: schema; legal entity active or suspended; " +
				"not primary; type in its dictionary; type allowed for the type of the legal entity; an active primary licence; no licence of the type yet; " +
				"issued not after active from; active from not after expiry; not expired today.",
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		},
		scope:         "license:write",
		bodyExample:   exampleLicenseCreation(),
		answerExample: exampleLicense(),
		do:            s.createLicense,
	})
}

func (s *server) createLicense(ctx context.Context, caller db.Caller, in *createLicenseInput) (*licenseOutput, error) {
	b := in.Body
	fields := db.LicenseFields{
		Type:           b.Type,
		IsPrimary:      b.IsPrimary,
		LicenseNumber:  emptyIsNull(b.LicenseNumber),
		IssuedBy:       b.IssuedBy,
		IssuedDate:     b.IssuedDate.Time,
		ActiveFromDate: b.ActiveFromDate.Time,
		WhatLicensed:   b.WhatLicensed,
		OrderNo:        b.OrderNo,
	}
	if b.ExpiryDate != nil {
		fields.ExpiryDate = &b.ExpiryDate.Time
	}
	license, err := s.DB.Licenses.Create(ctx, caller, fields)
	if err != nil {
		return nil, s.licenseError(ctx, err, b.Type)
	}
	return &licenseOutput{Envelope[License]{metaOf(ctx, http.StatusCreated), licenseAnswer(license)}}, nil
}

// licenseError adds to a refusal what its text says of the type.
func (s *server) licenseError(ctx context.Context, err error, licenseType string) error {
	var r db.Refusal
	if !errors.As(err, &r) {
		return err
	}
	var types []string
	if r == db.LicenseTypeUnknown {
		if types, err = s.DB.Licenses.Types(ctx); err != nil {
			return err
		}
	}
	return licenseRefused(ctx, r, licenseType, types)
}

func licenseAnswer(l db.License) License {
	a := License{
		ID:             l.ID,
		LegalEntityID:  l.LegalEntityID,
		Type:           l.Type,
		IsActive:       l.IsActive,
		IsPrimary:      l.IsPrimary,
		LicenseNumber:  l.LicenseNumber,
		IssuedBy:       l.IssuedBy,
		IssuedDate:     Date{l.IssuedDate},
		IssuerStatus:   l.IssuerStatus,
		ActiveFromDate: Date{l.ActiveFromDate},
		WhatLicensed:   l.WhatLicensed,
		OrderNo:        l.OrderNo,
		InsertedAt:     l.InsertedAt.UTC(),
		InsertedBy:     l.InsertedBy,
		UpdatedAt:      l.UpdatedAt.UTC(),
		UpdatedBy:      l.UpdatedBy,
	}
	if l.ExpiryDate != nil {
		a.ExpiryDate = &Date{*l.ExpiryDate}
	}
	return a
}

func emptyIsNull(s *string) *string {
	if s != nil && *s == "" {
		return nil
	}
	return s
}
