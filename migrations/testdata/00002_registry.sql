-- Rows of a registry at version 2. Written over the base data, where those are there already: an operator has changed them.
INSERT INTO prm.dictionaries (name, is_active) VALUES ('LICENSE_TYPE', true), ('RETIRED', false)
ON CONFLICT (name) DO UPDATE SET is_active = excluded.is_active;
INSERT INTO prm.dictionary_values (dictionary, code, description, is_active) VALUES
    ('LICENSE_TYPE', 'SPA', 'Курорт', true),
    ('LICENSE_TYPE', 'MUD', '', true),
    ('LICENSE_TYPE', 'MSP', 'no more', false),
    ('RETIRED', 'X', '', true)
ON CONFLICT (dictionary, code) DO UPDATE SET description = excluded.description, is_active = excluded.is_active;
INSERT INTO prm.parameters (name, value) VALUES
    ('LEGAL_ENTITY_SANATORIUM_ADDITIONAL_LICENSE_TYPES', '["SPA", "MUD"]'),
    ('me_allowed_transactions_le_types', '["SANATORIUM"]'),
    ('release_requires_holder', 'false'),
    ('A_TEXT', '"text"')
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

INSERT INTO prm.legal_entities (id, edrpou, name, type, status, nhs_verified, inserted_at, inserted_by, updated_at, updated_by) VALUES
    ('1e000000-0000-4000-8000-000000000001', '12345678', 'Санаторій', 'SANATORIUM', 'ACTIVE', true, '2021-02-03 04:05:06Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002'),
    ('1e000000-0000-4000-8000-000000000002', '87654321', 'Closed', 'OUTPATIENT', 'CLOSED', false, '2021-02-03 04:05:06Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002');
INSERT INTO prm.divisions (id, legal_entity_id, name, status, inserted_at, inserted_by, updated_at, updated_by) VALUES
    ('d1000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001', 'Кабінет', 'ACTIVE', '2021-02-03 04:05:06Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002');
INSERT INTO prm.employees (id, legal_entity_id, employee_type, status, inserted_at, inserted_by, updated_at, updated_by) VALUES
    ('e1000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001', 'SPECIALIST', 'APPROVED', '2021-02-03 04:05:06Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002');
-- Every element set; as few as may be; one that is kept for history.
INSERT INTO prm.licenses (id, legal_entity_id, type, is_active, is_primary, license_number, issued_by, issued_date, issuer_status, expiry_date, active_from_date,
    what_licensed, order_no, inserted_at, inserted_by, updated_at, updated_by) VALUES
    ('11000000-0000-4000-8000-000000000001', '1e000000-0000-4000-8000-000000000001', 'MSP', true, true, 'АБ 000001', 'МОЗ', '2020-01-02', 'valid', '2099-12-31', '2020-02-03',
        'медична практика', 'К-1', '2021-02-03 04:05:06.789Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07.891Z', '05e00000-0000-4000-8000-000000000002'),
    ('11000000-0000-4000-8000-000000000002', '1e000000-0000-4000-8000-000000000001', 'MUD', true, false, NULL, 'Issuer', '2020-01-02', NULL, NULL, '2020-02-03',
        NULL, NULL, '2021-02-03 04:05:07Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002'),
    ('11000000-0000-4000-8000-000000000003', '1e000000-0000-4000-8000-000000000001', 'MUD', false, false, NULL, 'Issuer', '2019-01-02', NULL, '2020-01-01', '2019-02-03',
        NULL, NULL, '2021-02-03 04:05:08Z', '05e00000-0000-4000-8000-000000000001', '2022-03-04 05:06:07Z', '05e00000-0000-4000-8000-000000000002');
