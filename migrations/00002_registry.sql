-- The registry of parties and licences. The service reads all of it and writes licences only.
-- Live: creates only; no lock on any existing table.

-- +goose Up
SET LOCAL lock_timeout = '2s';

CREATE TABLE prm.dictionaries (
    name      text    NOT NULL CONSTRAINT dictionaries_pkey PRIMARY KEY,
    is_active boolean NOT NULL DEFAULT true,
    CONSTRAINT dictionaries_name_not_empty CHECK (name <> '')
);
COMMENT ON TABLE prm.dictionaries IS 'Closed lists of codes that rules and schemas refer to, by name.';
COMMENT ON COLUMN prm.dictionaries.name IS 'Name by which rules refer to it, e.g. LICENSE_TYPE.';
COMMENT ON COLUMN prm.dictionaries.is_active IS 'False: no value of it is allowed any more.';
COMMENT ON CONSTRAINT dictionaries_pkey ON prm.dictionaries IS 'A dictionary is known by its name.';
COMMENT ON CONSTRAINT dictionaries_name_not_empty ON prm.dictionaries IS 'A dictionary without a name could not be referred to.';

CREATE TABLE prm.dictionary_values (
    dictionary  text    NOT NULL,
    code        text    NOT NULL,
    description text    NOT NULL DEFAULT '',
    is_active   boolean NOT NULL DEFAULT true,
    CONSTRAINT dictionary_values_pkey PRIMARY KEY (dictionary, code),
    CONSTRAINT dictionary_values_dictionary_fkey FOREIGN KEY (dictionary) REFERENCES prm.dictionaries (name) ON DELETE CASCADE,
    CONSTRAINT dictionary_values_code_not_empty CHECK (code <> '')
);
COMMENT ON TABLE prm.dictionary_values IS 'The codes of the dictionaries.';
COMMENT ON COLUMN prm.dictionary_values.dictionary IS 'The dictionary it belongs to.';
COMMENT ON COLUMN prm.dictionary_values.code IS 'The code that bodies carry.';
COMMENT ON COLUMN prm.dictionary_values.description IS 'What the code means, for people.';
COMMENT ON COLUMN prm.dictionary_values.is_active IS 'False: the code is no longer allowed in new data.';
COMMENT ON CONSTRAINT dictionary_values_pkey ON prm.dictionary_values IS 'A code stands once in a dictionary; serves the check of a code.';
COMMENT ON CONSTRAINT dictionary_values_dictionary_fkey ON prm.dictionary_values IS 'Replacing a dictionary replaces all its values.';
COMMENT ON CONSTRAINT dictionary_values_code_not_empty ON prm.dictionary_values IS 'An empty code means nothing.';

CREATE TABLE prm.parameters (
    name  text  NOT NULL CONSTRAINT parameters_pkey PRIMARY KEY,
    value jsonb NOT NULL,
    CONSTRAINT parameters_name_not_empty CHECK (name <> ''),
    CONSTRAINT parameters_value_shape CHECK (
        jsonb_typeof(value) IN ('boolean', 'string')
        OR jsonb_typeof(value) = 'array' AND NOT jsonb_path_exists(value, 'strict $[*] ? (@.type() != "string")')
    )
);
COMMENT ON TABLE prm.parameters IS 'Chart parameters: switches and lists of the rules that the operator of the registry sets.';
COMMENT ON COLUMN prm.parameters.name IS 'Name by which rules refer to it, e.g. me_allowed_transactions_le_types.';
COMMENT ON COLUMN prm.parameters.value IS 'A list of strings, a boolean or a string.';
COMMENT ON CONSTRAINT parameters_pkey ON prm.parameters IS 'A parameter is known by its name.';
COMMENT ON CONSTRAINT parameters_name_not_empty ON prm.parameters IS 'A parameter without a name could not be referred to.';
COMMENT ON CONSTRAINT parameters_value_shape ON prm.parameters IS 'Rules read lists of strings, booleans and strings, nothing else.';

CREATE TABLE prm.legal_entities (
    id           uuid        NOT NULL CONSTRAINT legal_entities_pkey PRIMARY KEY,
    edrpou       text        NOT NULL,
    name         text        NOT NULL,
    type         text        NOT NULL,
    status       text        NOT NULL,
    nhs_verified boolean     NOT NULL DEFAULT false,
    inserted_at  timestamptz NOT NULL DEFAULT statement_timestamp(),
    inserted_by  uuid        NOT NULL,
    updated_at   timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_by   uuid        NOT NULL,
    CONSTRAINT legal_entities_type_not_empty CHECK (type <> ''),
    CONSTRAINT legal_entities_status_known CHECK (status IN ('ACTIVE', 'SUSPENDED', 'CLOSED', 'REORGANIZED'))
);
COMMENT ON TABLE prm.legal_entities IS 'Clinics, pharmacies and other parties on whose behalf callers act. First in the lock order.';
COMMENT ON COLUMN prm.legal_entities.id IS 'The client id of an access token.';
COMMENT ON COLUMN prm.legal_entities.edrpou IS 'Code in the state register of enterprises.';
COMMENT ON COLUMN prm.legal_entities.name IS 'Name for people.';
COMMENT ON COLUMN prm.legal_entities.type IS 'Dictionary LEGAL_ENTITY_TYPE; names the chart parameter LEGAL_ENTITY_<type>_ADDITIONAL_LICENSE_TYPES.';
COMMENT ON COLUMN prm.legal_entities.status IS 'Dictionary LEGAL_ENTITY_STATUS.';
COMMENT ON COLUMN prm.legal_entities.nhs_verified IS 'Verified by the National Health Service; shown, never checked by the rules here.';
COMMENT ON COLUMN prm.legal_entities.inserted_at IS 'When it entered the registry.';
COMMENT ON COLUMN prm.legal_entities.inserted_by IS 'User who entered it.';
COMMENT ON COLUMN prm.legal_entities.updated_at IS 'When it last changed.';
COMMENT ON COLUMN prm.legal_entities.updated_by IS 'User who last changed it.';
COMMENT ON CONSTRAINT legal_entities_pkey ON prm.legal_entities IS 'Serves every look-up and lock of the caller''s legal entity.';
COMMENT ON CONSTRAINT legal_entities_type_not_empty ON prm.legal_entities IS 'Rules select parameters by the type.';
COMMENT ON CONSTRAINT legal_entities_status_known ON prm.legal_entities IS 'Rules decide on these four and no other.';

CREATE TABLE prm.divisions (
    id              uuid        NOT NULL CONSTRAINT divisions_pkey PRIMARY KEY,
    legal_entity_id uuid        NOT NULL,
    name            text        NOT NULL,
    status          text        NOT NULL,
    inserted_at     timestamptz NOT NULL DEFAULT statement_timestamp(),
    inserted_by     uuid        NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_by      uuid        NOT NULL,
    CONSTRAINT divisions_legal_entity_id_fkey FOREIGN KEY (legal_entity_id) REFERENCES prm.legal_entities (id)
);
CREATE INDEX divisions_legal_entity_id_idx ON prm.divisions (legal_entity_id);
COMMENT ON TABLE prm.divisions IS 'Places where a legal entity works; a patient may be referred to one.';
COMMENT ON COLUMN prm.divisions.id IS 'Random id.';
COMMENT ON COLUMN prm.divisions.legal_entity_id IS 'The legal entity it is a part of.';
COMMENT ON COLUMN prm.divisions.name IS 'Name for people.';
COMMENT ON COLUMN prm.divisions.status IS 'State of the division, e.g. ACTIVE; no rule here reads it.';
COMMENT ON COLUMN prm.divisions.inserted_at IS 'When it entered the registry.';
COMMENT ON COLUMN prm.divisions.inserted_by IS 'User who entered it.';
COMMENT ON COLUMN prm.divisions.updated_at IS 'When it last changed.';
COMMENT ON COLUMN prm.divisions.updated_by IS 'User who last changed it.';
COMMENT ON CONSTRAINT divisions_pkey ON prm.divisions IS 'Serves the look-up of a division that a caller names.';
COMMENT ON CONSTRAINT divisions_legal_entity_id_fkey ON prm.divisions IS 'A division is always part of a known legal entity.';
COMMENT ON INDEX prm.divisions_legal_entity_id_idx IS 'Serves the foreign key when a legal entity is removed.';

CREATE TABLE prm.employees (
    id              uuid        NOT NULL CONSTRAINT employees_pkey PRIMARY KEY,
    legal_entity_id uuid        NOT NULL,
    employee_type   text        NOT NULL,
    status          text        NOT NULL,
    inserted_at     timestamptz NOT NULL DEFAULT statement_timestamp(),
    inserted_by     uuid        NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_by      uuid        NOT NULL,
    CONSTRAINT employees_legal_entity_id_fkey FOREIGN KEY (legal_entity_id) REFERENCES prm.legal_entities (id)
);
CREATE INDEX employees_legal_entity_id_idx ON prm.employees (legal_entity_id);
COMMENT ON TABLE prm.employees IS 'People who work for a legal entity; a service request may be reserved for one.';
COMMENT ON COLUMN prm.employees.id IS 'Random id.';
COMMENT ON COLUMN prm.employees.legal_entity_id IS 'The legal entity that employs the person.';
COMMENT ON COLUMN prm.employees.employee_type IS 'Dictionary EMPLOYEE_TYPE; decides which categories of service request the person may take.';
COMMENT ON COLUMN prm.employees.status IS 'Dictionary EMPLOYEE_STATUS; only APPROVED may take a service request.';
COMMENT ON COLUMN prm.employees.inserted_at IS 'When it entered the registry.';
COMMENT ON COLUMN prm.employees.inserted_by IS 'User who entered it.';
COMMENT ON COLUMN prm.employees.updated_at IS 'When it last changed.';
COMMENT ON COLUMN prm.employees.updated_by IS 'User who last changed it.';
COMMENT ON CONSTRAINT employees_pkey ON prm.employees IS 'Serves the look-up of an employee that a caller names.';
COMMENT ON CONSTRAINT employees_legal_entity_id_fkey ON prm.employees IS 'An employee always works for a known legal entity.';
COMMENT ON INDEX prm.employees_legal_entity_id_idx IS 'Serves the foreign key when a legal entity is removed.';

CREATE TABLE prm.licenses (
    id               uuid        NOT NULL DEFAULT gen_random_uuid() CONSTRAINT licenses_pkey PRIMARY KEY,
    legal_entity_id  uuid        NOT NULL,
    type             text        NOT NULL,
    is_active        boolean     NOT NULL DEFAULT true,
    is_primary       boolean     NOT NULL,
    license_number   text,
    issued_by        text        NOT NULL,
    issued_date      date        NOT NULL,
    issuer_status    text,
    expiry_date      date,
    active_from_date date        NOT NULL,
    what_licensed    text,
    order_no         text,
    inserted_at      timestamptz NOT NULL DEFAULT statement_timestamp(),
    inserted_by      uuid        NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_by       uuid        NOT NULL,
    CONSTRAINT licenses_legal_entity_id_fkey FOREIGN KEY (legal_entity_id) REFERENCES prm.legal_entities (id),
    CONSTRAINT licenses_additional_issued_before_active CHECK (is_primary OR issued_date <= active_from_date),
    CONSTRAINT licenses_additional_active_before_expiry CHECK (is_primary OR active_from_date <= expiry_date)
);
CREATE INDEX licenses_legal_entity_id_inserted_at_id_idx ON prm.licenses (legal_entity_id, inserted_at, id);
CREATE UNIQUE INDEX licenses_active_additional_type_key ON prm.licenses (legal_entity_id, type) WHERE is_active AND NOT is_primary;
COMMENT ON TABLE prm.licenses IS 'Licences of legal entities: one primary, and additional ones that callers register. Second in the lock order.';
COMMENT ON COLUMN prm.licenses.id IS 'Random id.';
COMMENT ON COLUMN prm.licenses.legal_entity_id IS 'The holder.';
COMMENT ON COLUMN prm.licenses.type IS 'Dictionary LICENSE_TYPE.';
COMMENT ON COLUMN prm.licenses.is_active IS 'False: kept for history; still blocks a new licence of the type.';
COMMENT ON COLUMN prm.licenses.is_primary IS 'True: comes with the registration of the legal entity; never made or changed through the service.';
COMMENT ON COLUMN prm.licenses.license_number IS 'Number printed on the licence.';
COMMENT ON COLUMN prm.licenses.issued_by IS 'Authority that issued it.';
COMMENT ON COLUMN prm.licenses.issued_date IS 'Day of issue.';
COMMENT ON COLUMN prm.licenses.issuer_status IS 'Status at the issuing authority, where known.';
COMMENT ON COLUMN prm.licenses.expiry_date IS 'Last day of validity in the business time zone; null: never expires.';
COMMENT ON COLUMN prm.licenses.active_from_date IS 'First day of validity in the business time zone.';
COMMENT ON COLUMN prm.licenses.what_licensed IS 'Activity that is licensed.';
COMMENT ON COLUMN prm.licenses.order_no IS 'Number of the order by which it was issued.';
COMMENT ON COLUMN prm.licenses.inserted_at IS 'When it was registered; lists are ordered by it.';
COMMENT ON COLUMN prm.licenses.inserted_by IS 'User who registered it.';
COMMENT ON COLUMN prm.licenses.updated_at IS 'When it last changed.';
COMMENT ON COLUMN prm.licenses.updated_by IS 'User who last changed it.';
COMMENT ON CONSTRAINT licenses_pkey ON prm.licenses IS 'Serves the look-up of one licence.';
COMMENT ON CONSTRAINT licenses_legal_entity_id_fkey ON prm.licenses IS 'A licence always has a known holder.';
COMMENT ON CONSTRAINT licenses_additional_issued_before_active ON prm.licenses IS 'Rule 8 of creation; equal days pass. Primary licences come from outside and are taken as they are.';
COMMENT ON CONSTRAINT licenses_additional_active_before_expiry ON prm.licenses IS 'Rule 9 of creation; equal days and a null expiry pass.';
COMMENT ON INDEX prm.licenses_legal_entity_id_inserted_at_id_idx IS 'Serves the licences of one legal entity in list order, and the rules that look for one among them.';
COMMENT ON INDEX prm.licenses_active_additional_type_key IS 'Backs rule 7 of creation: whatever happens, one active additional licence of a type per legal entity.';

-- UPDATE on legal_entities is needed for row locks (FOR NO KEY UPDATE); a single column keeps the grant narrow.
GRANT SELECT ON prm.dictionaries, prm.dictionary_values, prm.parameters, prm.legal_entities, prm.divisions, prm.employees TO reiestr_app;
GRANT UPDATE (updated_at) ON prm.legal_entities TO reiestr_app;
GRANT SELECT, INSERT ON prm.licenses TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DROP TABLE prm.licenses;
DROP TABLE prm.employees;
DROP TABLE prm.divisions;
DROP TABLE prm.legal_entities;
DROP TABLE prm.parameters;
DROP TABLE prm.dictionary_values;
DROP TABLE prm.dictionaries;
