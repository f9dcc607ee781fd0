-- Base data: the dictionaries and chart parameters that the rules refer to, as the contract lists them.
-- Live: touches new rows only. What an operator has set since then is kept (DO NOTHING); the way down removes what is named here.

-- +goose Up
SET LOCAL lock_timeout = '2s';

INSERT INTO prm.dictionaries (name) VALUES
    ('LICENSE_TYPE'),
    ('LEGAL_ENTITY_TYPE'),
    ('LEGAL_ENTITY_STATUS'),
    ('eHealth/SNOMED/service_request_categories'),
    ('SERVICE_REQUEST_INTENT'),
    ('SERVICE_REQUEST_PRIORITY'),
    ('eHealth/service_request_complete_reasons'),
    ('eHealth/service_request_recall_reasons'),
    ('eHealth/service_request_cancel_reasons'),
    ('EMPLOYEE_TYPE'),
    ('EMPLOYEE_STATUS')
ON CONFLICT DO NOTHING;

INSERT INTO prm.dictionary_values (dictionary, code)
SELECT base.dictionary, unnest(string_to_array(base.codes, ' '))
FROM (VALUES
    ('LICENSE_TYPE', 'MSP PHARMACY PHARMACY_DRUGS'),
    ('LEGAL_ENTITY_TYPE', 'PRIMARY_CARE OUTPATIENT EMERGENCY PHARMACY MSP MIS NHS MSP_PHARMACY MSP_LIMITED'),
    ('LEGAL_ENTITY_STATUS', 'ACTIVE SUSPENDED CLOSED REORGANIZED'),
    ('eHealth/SNOMED/service_request_categories', 'counselling laboratory_procedure diagnostic_procedure imaging education surgical_procedure procedure hospitalization transfer_of_care'),
    ('SERVICE_REQUEST_INTENT', 'plan order proposal'),
    ('SERVICE_REQUEST_PRIORITY', 'routine urgent'),
    ('eHealth/service_request_complete_reasons', 'default'),
    ('eHealth/service_request_recall_reasons', 'default cured'),
    ('eHealth/service_request_cancel_reasons', 'default autoexpired'),
    ('EMPLOYEE_TYPE', 'OWNER PHARMACY_OWNER HR DOCTOR SPECIALIST ASSISTANT LABORANT RECEPTIONIST ADMIN PHARMACIST MED_ADMIN MED_COORDINATOR'),
    ('EMPLOYEE_STATUS', 'APPROVED DISMISSED')
) AS base (dictionary, codes)
ON CONFLICT DO NOTHING;

INSERT INTO prm.parameters (name, value) VALUES
    ('LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES', '["PHARMACY_DRUGS"]'),
    ('LEGAL_ENTITY_PHARMACY_ADDITIONAL_LICENSE_TYPES', '["PHARMACY_DRUGS"]'),
    ('LEGAL_ENTITY_PRIMARY_CARE_ADDITIONAL_LICENSE_TYPES', '[]'),
    ('LEGAL_ENTITY_EMERGENCY_ADDITIONAL_LICENSE_TYPES', '[]'),
    ('me_allowed_transactions_le_types', '["PRIMARY_CARE", "OUTPATIENT", "EMERGENCY"]'),
    ('release_requires_holder', 'true')
ON CONFLICT DO NOTHING;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DELETE FROM prm.parameters WHERE name IN (
    'LEGAL_ENTITY_OUTPATIENT_ADDITIONAL_LICENSE_TYPES',
    'LEGAL_ENTITY_PHARMACY_ADDITIONAL_LICENSE_TYPES',
    'LEGAL_ENTITY_PRIMARY_CARE_ADDITIONAL_LICENSE_TYPES',
    'LEGAL_ENTITY_EMERGENCY_ADDITIONAL_LICENSE_TYPES',
    'me_allowed_transactions_le_types',
    'release_requires_holder');
DELETE FROM prm.dictionaries WHERE name IN (
    'LICENSE_TYPE',
    'LEGAL_ENTITY_TYPE',
    'LEGAL_ENTITY_STATUS',
    'eHealth/SNOMED/service_request_categories',
    'SERVICE_REQUEST_INTENT',
    'SERVICE_REQUEST_PRIORITY',
    'eHealth/service_request_complete_reasons',
    'eHealth/service_request_recall_reasons',
    'eHealth/service_request_cancel_reasons',
    'EMPLOYEE_TYPE',
    'EMPLOYEE_STATUS');
