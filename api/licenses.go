package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
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

// LicenseUpdate is the body of PATCH /api/licenses/{id}: what is left out stays as it is. Unknown keys are ignored.
type LicenseUpdate struct {
	_              struct{} `json:"-" additionalProperties:"true"`
	Type           string   `json:"type" maxLength:"255" pattern:"^[^\\x00]*$" doc:"That of the licence: it cannot be changed" example:"PHARMACY_DRUGS"`
	IsPrimary      bool     `json:"is_primary" doc:"Only false: an additional licence stays one" example:"false"`
	IssuedBy       *string  `json:"issued_by,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" example:"Держлікслужба"`
	IssuedDate     *Date    `json:"issued_date,omitempty" doc:"Not after active_from_date"`
	ActiveFromDate *Date    `json:"active_from_date,omitempty" doc:"Not after expiry_date"`
	ExpiryDate     *Date    `json:"expiry_date,omitempty" doc:"Today or later"`
	LicenseNumber  *string  `json:"license_number,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" doc:"Empty: none any more" example:"АЕ 123456"`
	WhatLicensed   *string  `json:"what_licensed,omitempty" maxLength:"1000" pattern:"^[^\\x00]*$" example:"реалізація наркотичних засобів"`
	OrderNo        *string  `json:"order_no,omitempty" maxLength:"255" pattern:"^[^\\x00]*$" example:"К-123"`
}

type createLicenseInput struct {
	Body LicenseCreation
}

type updateLicenseInput struct {
	ID   UUID `path:"id"`
	Body LicenseUpdate
}

type listLicensesInput struct {
	ID            UUID         `query:"id"`
	LicenseNumber string       `query:"license_number" maxLength:"255" doc:"Exactly this number"`
	Type          string       `query:"type" maxLength:"255" doc:"Dictionary LICENSE_TYPE"`
	IsPrimary     optionalBool `query:"is_primary"`
	Page          int64        `query:"page" minimum:"1" default:"1" doc:"A page behind the last is empty"`
	PageSize      int64        `query:"page_size" minimum:"1" maximum:"300" default:"50"`
}

type licensesOutput struct {
	Body ListEnvelope[License]
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
	register(s, endpoint[listLicensesInput, licensesOutput]{
		Operation: huma.Operation{
			OperationID: "listLicenses",
			Method:      http.MethodGet,
			Path:        "/api/licenses",
			Tags:        []string{"Licences"},
			Summary:     "List licences",
			Description: "The active licences of the caller's legal entity, in the order in which they were registered. All filters are exact, and all that are " +
				"given have to fit.",
		},
		scope:         "license:read",
		answerExample: []License{exampleLicense()},
		do:            s.listLicenses,
	})
	register(s, endpoint[updateLicenseInput, licenseOutput]{
		Operation: huma.Operation{
			OperationID: "updateLicense",
			Method:      http.MethodPatch,
			Path:        "/api/licenses/{id}",
			Tags:        []string{"Licences"},
			Summary:     "Update an additional licence",
			Description: "Changes an additional licence of the caller's legal entity; what is left out stays as it is. Checks, in this order: schema; legal entity " +
				"active or suspended; the licence exists; it is additional, and stays so; it is the legal entity's; type unchanged; an active primary licence; issued " +
				"not after active from; active from not after expiry; not expired today.",
			Errors: []int{http.StatusNotFound, http.StatusConflict},
		},
		scope:         "license:write",
		bodyExample:   exampleLicenseUpdate(),
		answerExample: exampleLicense(),
		do:            s.updateLicense,
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
		ExpiryDate:     b.ExpiryDate.pointer(),
		ActiveFromDate: b.ActiveFromDate.Time,
		WhatLicensed:   b.WhatLicensed,
		OrderNo:        b.OrderNo,
	}
	license, err := s.DB.Licenses.Create(ctx, caller, fields)
	if err != nil {
		return nil, licensePresent(ctx, err, b.Type)
	}
	return &licenseOutput{Envelope[License]{metaOf(ctx, http.StatusCreated), licenseAnswer(license)}}, nil
}

func (s *server) updateLicense(ctx context.Context, caller db.Caller, in *updateLicenseInput) (*licenseOutput, error) {
	b := in.Body
	license, err := s.DB.Licenses.Update(ctx, caller, in.ID.value(), db.LicenseChanges{
		Type:           b.Type,
		IsPrimary:      b.IsPrimary,
		LicenseNumber:  b.LicenseNumber,
		IssuedBy:       b.IssuedBy,
		IssuedDate:     b.IssuedDate.pointer(),
		ExpiryDate:     b.ExpiryDate.pointer(),
		ActiveFromDate: b.ActiveFromDate.pointer(),
		WhatLicensed:   b.WhatLicensed,
		OrderNo:        b.OrderNo,
	})
	if err != nil {
		return nil, err
	}
	return &licenseOutput{Envelope[License]{metaOf(ctx, http.StatusOK), licenseAnswer(license)}}, nil
}

func (s *server) listLicenses(ctx context.Context, caller db.Caller, in *listLicensesInput) (*licensesOutput, error) {
	list, err := s.DB.Licenses.List(ctx, caller.ClientID, db.LicenseFilter{
		ID:            in.ID.optional(),
		LicenseNumber: optionalText(in.LicenseNumber),
		Type:          optionalText(in.Type),
		IsPrimary:     in.IsPrimary.pointer(),
	}, db.Page{Number: in.Page, Size: in.PageSize})
	if err != nil {
		return nil, err
	}
	answer, err := listEnvelope(ctx, list, func(l db.License) (License, error) { return licenseAnswer(l), nil })
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
