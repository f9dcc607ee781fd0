package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/reiestr/reiestr/api/rest"
	"github.com/reiestr/reiestr/db"
)

// License is a licence of a legal entity (contract, section 3).
type License struct {
	ID             uuid.UUID  `json:"id" format:"uuid"`
	LegalEntityID  uuid.UUID  `json:"legal_entity_id" format:"uuid"`
	Type           string     `json:"type" doc:"Dictionary LICENSE_TYPE"`
	IsActive       bool       `json:"is_active"`
	IsPrimary      bool       `json:"is_primary"`
	LicenseNumber  *string    `json:"license_number"`
	IssuedBy       string     `json:"issued_by"`
	IssuedDate     rest.Date  `json:"issued_date"`
	IssuerStatus   *string    `json:"issuer_status"`
	ExpiryDate     *rest.Date `json:"expiry_date" doc:"Null: never expires"`
	ActiveFromDate rest.Date  `json:"active_from_date"`
	WhatLicensed   *string    `json:"what_licensed"`
	OrderNo        *string    `json:"order_no"`
	InsertedAt     time.Time  `json:"inserted_at"`
	InsertedBy     uuid.UUID  `json:"inserted_by" format:"uuid" doc:"User id"`
	UpdatedAt      time.Time  `json:"updated_at"`
	UpdatedBy      uuid.UUID  `json:"updated_by" format:"uuid" doc:"User id"`
}

// LicenseCreation is the body of POST /api/licenses. Unknown keys are ignored.
type LicenseCreation struct {
	_              struct{}   `json:"-" additionalProperties:"true"`
	Type           string     `json:"type" maxLength:"255" pattern:"^[^\\x00]*$" doc:"Dictionary LICENSE_TYPE, as far as the type of the legal entity allows" example:"PHARMACY_DRUGS"`
	IsPrimary      bool       `json:"is_primary" doc:"Only false can be created" example:"false"`
	IssuedBy       string     `json:"issued_by" maxLength:"1000" pattern:"^[^\\x00]*$" example:"Держлікслужба"`
	IssuedDate     rest.Date  `json:"issued_date" doc:"Not after active_from_date"`
	ActiveFromDate rest.Date  `json:"active_from_date" doc:"Not after expiry_date"`
	ExpiryDate     *rest.Date `json:"expiry_date,omitempty" doc:"Today or later; absent: never expires"`
	LicenseNumber  *string    `json:"license_number,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" example:"АЕ 123456"`
	WhatLicensed   *string    `json:"what_licensed,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" example:"реалізація наркотичних засобів"`
	OrderNo        *string    `json:"order_no,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" example:"К-123"`
}

// LicenseUpdate is the body of PATCH /api/licenses/{id}: what is left out stays as it is. Unknown keys are ignored.
type LicenseUpdate struct {
	_              struct{}   `json:"-" additionalProperties:"true"`
	Type           string     `json:"type" maxLength:"255" pattern:"^[^\\x00]*$" doc:"That of the licence: it cannot be changed" example:"PHARMACY_DRUGS"`
	IsPrimary      bool       `json:"is_primary" doc:"Only false: an additional licence stays one" example:"false"`
	IssuedBy       *string    `json:"issued_by,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" example:"Держлікслужба"`
	IssuedDate     *rest.Date `json:"issued_date,omitempty" doc:"Not after active_from_date"`
	ActiveFromDate *rest.Date `json:"active_from_date,omitempty" doc:"Not after expiry_date"`
	ExpiryDate     *rest.Date `json:"expiry_date,omitempty" doc:"Today or later"`
	LicenseNumber  *string    `json:"license_number,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" doc:"Empty: none any more" example:"АЕ 123456"`
	WhatLicensed   *string    `json:"what_licensed,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" example:"реалізація наркотичних засобів"`
	OrderNo        *string    `json:"order_no,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" example:"К-123"`
}

type createLicenseInput struct {
	Body LicenseCreation
}

type updateLicenseInput struct {
	ID   rest.UUID `path:"id"`
	Body LicenseUpdate
}

type listLicensesInput struct {
	ID            rest.UUID         `query:"id"`
	LicenseNumber string            `query:"license_number" maxLength:"255" doc:"Exactly this number"`
	Type          string            `query:"type" maxLength:"255" doc:"Dictionary LICENSE_TYPE"`
	IsPrimary     rest.OptionalBool `query:"is_primary"`
	Page          int64             `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize      int64             `query:"page_size" minimum:"1" maximum:"300" default:"50"`
}

type licensesOutput struct {
	Body rest.ListEnvelope[License]
}

type licenseOutput struct {
	Body rest.Envelope[License]
}

// licenses are the operations on licences.
type licenses struct{ *rest.Server }

func (l licenses) register() {
	rest.Register(l.Server, rest.Endpoint[createLicenseInput, licenseOutput]{
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
		},
		Scope: "license:write",
		Examples: rest.Examples{
			Body:   exampleLicenseCreation(),
			Answer: exampleLicense(),
			Refusals: map[int]string{
				http.StatusNotFound: "No active primary license found for legal entity",
				http.StatusConflict: "License with type PHARMACY_DRUGS is already present",
			},
			Invalid: rest.Invalid{Entry: "$.issued_date", EntryType: "json_data_property", Rules: []rest.Rule{rest.DateRule("2017-02-29")}},
		},
		Do: l.create,
	})
	rest.Register(l.Server, rest.Endpoint[listLicensesInput, licensesOutput]{
		Operation: huma.Operation{
			OperationID: "listLicenses",
			Method:      http.MethodGet,
			Path:        "/api/licenses",
			Tags:        []string{"Licences"},
			Summary:     "List licences",
			Description: "The active licences of the caller's legal entity, in the order in which they were registered. All filters are exact, and all that are " +
				"given have to fit.",
		},
		Scope: "license:read",
		Examples: rest.Examples{
			Answer:  []License{exampleLicense()},
			Invalid: rest.Invalid{Entry: "$.page", EntryType: "query_parameter", Rules: []rest.Rule{rest.CastRule("integer", "string")}},
		},
		Do: l.list,
	})
	rest.Register(l.Server, rest.Endpoint[updateLicenseInput, licenseOutput]{
		Operation: huma.Operation{
			OperationID: "updateLicense",
			Method:      http.MethodPatch,
			Path:        "/api/licenses/{id}",
			Tags:        []string{"Licences"},
			Summary:     "Update an additional licence",
			Description: "Changes an additional licence of the caller's legal entity; what is left out stays as it is. Checks, in this order: schema; legal entity " +
				"active or suspended; the licence exists; it is additional, and stays so; it is the legal entity's; type unchanged; an active primary licence; issued " +
				"not after active from; active from not after expiry; not expired today.",
		},
		Scope: "license:write",
		Examples: rest.Examples{
			Body:   exampleLicenseUpdate(),
			Answer: exampleLicense(),
			Refusals: map[int]string{
				http.StatusNotFound: "License was not found",
				http.StatusConflict: "Only additional license can be updated",
			},
			Invalid: rest.Invalid{Entry: "$.issued_date", EntryType: "json_data_property", Rules: []rest.Rule{rest.DateRule("2017-02-29")}},
		},
		Do: l.update,
	})
}

func (l licenses) create(ctx context.Context, caller db.Caller, in *createLicenseInput) (*licenseOutput, error) {
	b := in.Body
	fields := db.LicenseFields{
		Type:           b.Type,
		IsPrimary:      b.IsPrimary,
		LicenseNumber:  emptyIsNull(b.LicenseNumber),
		IssuedBy:       b.IssuedBy,
		IssuedDate:     b.IssuedDate.Time,
		ExpiryDate:     b.ExpiryDate.Pointer(),
		ActiveFromDate: b.ActiveFromDate.Time,
		WhatLicensed:   b.WhatLicensed,
		OrderNo:        b.OrderNo,
	}
	license, err := l.DB.Licenses.Create(ctx, caller, fields)
	if err != nil {
		return nil, licensePresent(ctx, err, b.Type)
	}
	return &licenseOutput{rest.Object(ctx, http.StatusCreated, licenseAnswer(license))}, nil
}

func (l licenses) update(ctx context.Context, caller db.Caller, in *updateLicenseInput) (*licenseOutput, error) {
	b := in.Body
	license, err := l.DB.Licenses.Update(ctx, caller, in.ID.Value(), db.LicenseChanges{
		Type:           b.Type,
		IsPrimary:      b.IsPrimary,
		LicenseNumber:  b.LicenseNumber,
		IssuedBy:       b.IssuedBy,
		IssuedDate:     b.IssuedDate.Pointer(),
		ExpiryDate:     b.ExpiryDate.Pointer(),
		ActiveFromDate: b.ActiveFromDate.Pointer(),
		WhatLicensed:   b.WhatLicensed,
		OrderNo:        b.OrderNo,
	})
	if err != nil {
		return nil, err
	}
	return &licenseOutput{rest.Object(ctx, http.StatusOK, licenseAnswer(license))}, nil
}

func (l licenses) list(ctx context.Context, caller db.Caller, in *listLicensesInput) (*licensesOutput, error) {
	list, err := l.DB.Licenses.List(ctx, caller.ClientID, db.LicenseFilter{
		ID:            in.ID.Optional(),
		LicenseNumber: rest.OptionalText(in.LicenseNumber),
		Type:          rest.OptionalText(in.Type),
		IsPrimary:     in.IsPrimary.Pointer(),
	}, db.Page{Number: in.Page, Size: in.PageSize})
	if err != nil {
		return nil, err
	}
	answer, err := rest.List(ctx, list, func(l db.License) (License, error) { return licenseAnswer(l), nil })
	return &licensesOutput{answer}, err
}

// licensePresent names the type in the one refusal whose text speaks of it.
func licensePresent(ctx context.Context, err error, licenseType string) error {
	if !errors.Is(err, db.LicenseTypePresent) {
		return err
	}
	f := refused(ctx, db.LicenseTypePresent, nil)
	f.Fault.Message = strings.ReplaceAll(f.Fault.Message, "<type>", licenseType)
	return f
}

func licenseAnswer(l db.License) License {
	return License{
		ID:             l.ID,
		LegalEntityID:  l.LegalEntityID,
		Type:           l.Type,
		IsActive:       l.IsActive,
		IsPrimary:      l.IsPrimary,
		LicenseNumber:  l.LicenseNumber,
		IssuedBy:       l.IssuedBy,
		IssuedDate:     rest.Day(l.IssuedDate),
		IssuerStatus:   l.IssuerStatus,
		ExpiryDate:     rest.OptionalDay(l.ExpiryDate),
		ActiveFromDate: rest.Day(l.ActiveFromDate),
		WhatLicensed:   l.WhatLicensed,
		OrderNo:        l.OrderNo,
		InsertedAt:     l.InsertedAt.UTC(),
		InsertedBy:     l.InsertedBy,
		UpdatedAt:      l.UpdatedAt.UTC(),
		UpdatedBy:      l.UpdatedBy,
	}
}

func emptyIsNull(s *string) *string {
	if s != nil && *s == "" {
		return nil
	}
	return s
}

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
		Type: f.Type, IssuedBy: f.IssuedBy, IssuedDate: rest.Day(f.IssuedDate), ActiveFromDate: rest.Day(f.ActiveFromDate), ExpiryDate: rest.OptionalDay(f.ExpiryDate),
		LicenseNumber: f.LicenseNumber, WhatLicensed: f.WhatLicensed, OrderNo: f.OrderNo,
	}
}

func exampleLicenseUpdate() LicenseUpdate {
	f := exampleLicenseFields()
	return LicenseUpdate{Type: f.Type, ExpiryDate: rest.OptionalDay(f.ExpiryDate), OrderNo: f.OrderNo}
}

func exampleLicense() License {
	return licenseAnswer(db.License{
		LicenseFields: exampleLicenseFields(), ID: uuid.MustParse("a6b2f9a1-0c1d-4e53-9f1e-6f2d6c7b8a90"), LegalEntityID: exampleClinic, IsActive: true,
		InsertedAt: exampleMoment, InsertedBy: exampleUser, UpdatedAt: exampleMoment, UpdatedBy: exampleUser,
	})
}
