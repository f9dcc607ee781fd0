package api

import (
	"context"
	"encoding/json"
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
	ID             uuid.UUID `json:"id" format:"uuid"`
	LegalEntityID  uuid.UUID `json:"legal_entity_id" format:"uuid"`
	Type           string    `json:"type" doc:"Dictionary LICENSE_TYPE"`
	IsActive       bool      `json:"is_active"`
	IsPrimary      bool      `json:"is_primary"`
	LicenseNumber  *string   `json:"license_number"`
	IssuedBy       string    `json:"issued_by"`
	IssuedDate     db.Date   `json:"issued_date"`
	IssuerStatus   *string   `json:"issuer_status"`
	ExpiryDate     *db.Date  `json:"expiry_date" doc:"Null: never expires"`
	ActiveFromDate db.Date   `json:"active_from_date"`
	WhatLicensed   *string   `json:"what_licensed"`
	OrderNo        *string   `json:"order_no"`
	InsertedAt     time.Time `json:"inserted_at"`
	InsertedBy     uuid.UUID `json:"inserted_by" format:"uuid" doc:"User id"`
	UpdatedAt      time.Time `json:"updated_at"`
	UpdatedBy      uuid.UUID `json:"updated_by" format:"uuid" doc:"User id"`
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

// LicenseUpdate is the body of PATCH /api/licenses/{id}. A field that is left out keeps its value. Unknown keys are
// ignored.
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
			Description: "Registers an additional licence for the caller's legal entity. Checks, in this order: " +
				"schema; legal entity active or suspended; not primary; type in its dictionary; type allowed for " +
				"the type of the legal entity; an active primary licence; no licence of the type yet; issued not " +
				"after active from; active from not after expiry; not expired today.",
		},
		Scope: "license:write",
		Examples: rest.Examples{
			Body:   exampleLicenseCreation(),
			Answer: exampleLicense(),
			Refusals: map[int]string{
				http.StatusNotFound: "No active primary license found for legal entity",
				http.StatusConflict: "License with type PHARMACY_DRUGS is already present",
			},
			Invalid: rest.Invalid{
				Entry: "$.issued_date", EntryType: "json_data_property",
				Rules: []rest.Rule{rest.DateRule("2017-02-29")},
			},
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
			Description: "The active licences of the caller's legal entity, in the order in which they were " +
				"registered. All filters are exact, and all that are given have to fit.",
		},
		Scope: "license:read",
		Examples: rest.Examples{
			Answer: []License{exampleLicense()},
			Invalid: rest.Invalid{
				Entry: "$.page", EntryType: "query_parameter",
				Rules: []rest.Rule{rest.CastRule("integer", "string")},
			},
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
			Description: "Changes an additional licence of the caller's legal entity; what is left out stays as " +
				"it is. Checks, in this order: schema; legal entity active or suspended; the licence exists; it " +
				"is additional, and stays so; it is the legal entity's; type unchanged; an active primary " +
				"licence; issued not after active from; active from not after expiry; not expired today.",
		},
		Scope: "license:write",
		Examples: rest.Examples{
			Body:   exampleLicenseUpdate(),
			Answer: exampleLicense(),
			Refusals: map[int]string{
				http.StatusNotFound: "License was not found",
				http.StatusConflict: "Only additional license can be updated",
			},
			Invalid: rest.Invalid{
				Entry: "$.issued_date", EntryType: "json_data_property",
				Rules: []rest.Rule{rest.DateRule("2017-02-29")},
			},
		},
		Do: l.update,
	})
}

func (l licenses) create(ctx context.Context, caller db.Caller, in *createLicenseInput) (*licenseOutput, error) {
	license, err := l.DB.Licenses.Create(ctx, caller, in.Body)
	if err != nil {
		return nil, licensePresent(ctx, err, in.Body.Type)
	}
	return &licenseOutput{rest.Object(ctx, http.StatusCreated, licenseAnswer(license))}, nil
}

func (l licenses) update(ctx context.Context, caller db.Caller, in *updateLicenseInput) (*licenseOutput, error) {
	license, err := l.DB.Licenses.Update(ctx, caller, in.ID.Value(), in.Body)
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

// licensePresent puts the type of the licence into the text of LicenseTypePresent, the only refusal whose text has a
// placeholder.
func licensePresent(ctx context.Context, err error, licenseType string) error {
	if !errors.Is(err, db.LicenseTypePresent) {
		return err
	}
	f := refused(ctx, db.LicenseTypePresent, nil)
	f.Fault.Message = strings.ReplaceAll(f.Fault.Message, "<type>", licenseType)
	return f
}

func licenseAnswer(l db.License) License {
	l.InsertedAt, l.UpdatedAt = l.InsertedAt.UTC(), l.UpdatedAt.UTC()
	return License(l)
}

// exampleLicenseCreation and exampleLicenseUpdate are requests, exampleLicense is the answer to the first.
func exampleLicenseCreation() LicenseCreation {
	number, what, order := "АЕ 123456", "обіг наркотичних засобів", "К-123"
	return LicenseCreation{
		Type: "PHARMACY_DRUGS", IssuedBy: "Держлікслужба", IssuedDate: rest.Day(2026, 1, 15),
		ActiveFromDate: rest.Day(2026, 2, 1), ExpiryDate: new(rest.Day(2031, 1, 31)),
		LicenseNumber: &number, WhatLicensed: &what, OrderNo: &order,
	}
}

func exampleLicenseUpdate() LicenseUpdate {
	c := exampleLicenseCreation()
	return LicenseUpdate{Type: c.Type, ExpiryDate: c.ExpiryDate, OrderNo: c.OrderNo}
}

func exampleLicense() License {
	answer := License{
		ID: uuid.MustParse("a6b2f9a1-0c1d-4e53-9f1e-6f2d6c7b8a90"), LegalEntityID: exampleClinic, IsActive: true,
		InsertedAt: exampleMoment, InsertedBy: exampleUser, UpdatedAt: exampleMoment, UpdatedBy: exampleUser,
	}
	sent, err := json.Marshal(exampleLicenseCreation())
	if err == nil {
		err = json.Unmarshal(sent, &answer)
	}
	if err != nil {
		panic(err) // it is the same at every start
	}
	return answer
}
