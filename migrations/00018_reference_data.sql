-- Reference data: a dictionary gets a description and labels, its values may have values below them, and more dictionaries and parameters
-- are base data. docs/reference-data.md says of each value how certain it is.
-- Live: columns with a constant default, or that can be null: the tables are locked for a moment and not rewritten. The service only reads
-- both tables, `reiestr load` is their only writer. What an operator has set is kept: a dictionary or a parameter that is there stays as it
-- is (DO NOTHING), and only empty descriptions are filled in. The way down removes the rows that are named here.

-- +goose Up
SET LOCAL lock_timeout = '2s';

ALTER TABLE prm.dictionaries ADD COLUMN description text NOT NULL DEFAULT '';
ALTER TABLE prm.dictionaries ADD COLUMN labels text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN prm.dictionaries.description IS 'What the dictionary is for, for people.';
COMMENT ON COLUMN prm.dictionaries.labels IS 'Kinds of the dictionary, shown to callers: SYSTEM, EXTERNAL, ADMIN, READ_ONLY, TRANSLATIONS. No rule reads them.';

ALTER TABLE prm.dictionary_values ADD COLUMN parent_code text;
COMMENT ON COLUMN prm.dictionary_values.parent_code IS 'The value of the same dictionary that has this one among its child_values; null: it is at the top. Rules do not read it: a code counts at every level.';
-- 00020 validates it.
ALTER TABLE prm.dictionary_values ADD CONSTRAINT dictionary_values_parent_code_fkey
    FOREIGN KEY (dictionary, parent_code) REFERENCES prm.dictionary_values (dictionary, code) NOT VALID;
COMMENT ON CONSTRAINT dictionary_values_parent_code_fkey ON prm.dictionary_values IS 'A child value stands below a value of its own dictionary.';

GRANT SELECT (description, labels) ON prm.dictionaries TO reiestr_readonly;
GRANT SELECT (parent_code) ON prm.dictionary_values TO reiestr_readonly;

-- A dictionary with a description is one that this statement adds: the column is new.
INSERT INTO prm.dictionaries (name, description) VALUES
    ('LEGAL_ENTITY_TYPE_V2', 'Типи закладів'),
    ('MEDICAL_PROGRAM_TYPE', 'Типи медичних програм'),
    ('SERVICE_UNIT', 'Одиниці кількості послуг'),
    ('GENDER', 'Стать'),
    ('ACCREDITATION_CATEGORY', 'Категорії акредитації'),
    ('POSITION', 'Посади'),
    ('SPECIALITY_TYPE', 'Спеціальності'),
    ('DOCUMENT_TYPE', 'Типи документів'),
    ('eHealth/resources', 'Ресурси, на які вказують посилання')
ON CONFLICT DO NOTHING;

INSERT INTO prm.dictionary_values (dictionary, code, description)
SELECT base.dictionary, base.code, base.description
FROM (VALUES
    ('LEGAL_ENTITY_TYPE_V2', 'PRIMARY_CARE', ''),
    ('LEGAL_ENTITY_TYPE_V2', 'OUTPATIENT', ''),
    ('LEGAL_ENTITY_TYPE_V2', 'EMERGENCY', ''),
    ('LEGAL_ENTITY_TYPE_V2', 'PHARMACY', 'Аптека'),
    ('MEDICAL_PROGRAM_TYPE', 'MEDICATION', ''),
    ('MEDICAL_PROGRAM_TYPE', 'SERVICE', ''),
    ('MEDICAL_PROGRAM_TYPE', 'DEVICE', ''),
    ('SERVICE_UNIT', 'PIECE', ''),
    ('GENDER', 'MALE', 'чоловіча'),
    ('GENDER', 'FEMALE', 'жіноча'),
    ('ACCREDITATION_CATEGORY', 'HIGHEST', 'Вища категорія'),
    ('ACCREDITATION_CATEGORY', 'FIRST', 'Перша категорія'),
    ('ACCREDITATION_CATEGORY', 'SECOND', 'Друга категорія'),
    ('ACCREDITATION_CATEGORY', 'NO_ACCREDITATION', 'Без акредитації'),
    ('SPECIALITY_TYPE', 'FAMILY_DOCTOR', 'Сімейний лікар'),
    ('SPECIALITY_TYPE', 'PEDIATRICIAN', 'Педіатр'),
    ('SPECIALITY_TYPE', 'THERAPIST', 'Терапевт'),
    ('SPECIALITY_TYPE', 'PHARMACIST', 'Фармацевт'),
    ('DOCUMENT_TYPE', 'PASSPORT', 'Паспорт'),
    ('DOCUMENT_TYPE', 'NATIONAL_ID', 'Біометричний паспорт'),
    ('DOCUMENT_TYPE', 'BIRTH_CERTIFICATE', 'Свідоцтво про народження'),
    ('DOCUMENT_TYPE', 'TEMPORARY_CERTIFICATE', 'Тимчасовий паспорт')
) AS base (dictionary, code, description)
JOIN prm.dictionaries d ON d.name = base.dictionary AND d.description <> ''
ON CONFLICT DO NOTHING;

INSERT INTO prm.dictionary_values (dictionary, code)
SELECT base.dictionary, unnest(string_to_array(base.codes, ' '))
FROM (VALUES
    ('POSITION', 'P1 P2 P3 P32 P4 P6 P5 P18 P19 P22 P23 P24 P25 P26 P229 P230 P231 P232 P233 P234 P235 P236 P240 P257'),
    ('eHealth/resources', 'patient employee legal_entity division encounter episode_of_care condition observation diagnostic_report procedure device_request service service_group medical_program program_service care_plan activity specimen service_request job')
) AS base (dictionary, codes)
JOIN prm.dictionaries d ON d.name = base.dictionary AND d.description <> ''
ON CONFLICT DO NOTHING;

-- Only where nothing but the base data of 00005 is there: a dictionary that an operator has replaced gets no code.
INSERT INTO prm.dictionary_values (dictionary, code)
SELECT 'EMPLOYEE_TYPE', 'REORGANIZATION_OWNER'
FROM prm.dictionary_values v
WHERE v.dictionary = 'EMPLOYEE_TYPE'
HAVING array_agg(v.code ORDER BY v.code COLLATE "C") = '{ADMIN,ASSISTANT,DOCTOR,HR,LABORANT,MED_ADMIN,MED_COORDINATOR,OWNER,PHARMACIST,PHARMACY_OWNER,RECEPTIONIST,SPECIALIST}'
ON CONFLICT DO NOTHING;

-- Allowed: eleven rows that only `reiestr load` writes.
UPDATE prm.dictionaries d SET description = base.description
FROM (VALUES
    ('LICENSE_TYPE', 'Типи ліцензій'),
    ('LEGAL_ENTITY_TYPE', 'Типи закладів, застарілий перелік'),
    ('LEGAL_ENTITY_STATUS', 'Статуси закладів'),
    ('eHealth/SNOMED/service_request_categories', 'Категорії направлень'),
    ('SERVICE_REQUEST_INTENT', 'Наміри направлень'),
    ('SERVICE_REQUEST_PRIORITY', 'Пріоритети направлень'),
    ('eHealth/service_request_complete_reasons', 'Причини завершення направлень'),
    ('eHealth/service_request_recall_reasons', 'Причини відкликання направлень'),
    ('eHealth/service_request_cancel_reasons', 'Причини скасування направлень'),
    ('EMPLOYEE_TYPE', 'Типи співробітників'),
    ('EMPLOYEE_STATUS', 'Статуси співробітників')
) AS base (name, description)
WHERE d.name = base.name AND d.description = '';

-- Allowed: twenty rows that only `reiestr load` writes.
UPDATE prm.dictionaries d SET labels = '{SYSTEM,EXTERNAL}'
WHERE d.labels = '{}' AND d.description <> '';

-- Allowed: five rows that only `reiestr load` writes.
UPDATE prm.dictionary_values v SET description = base.description
FROM (VALUES
    ('LICENSE_TYPE', 'MSP', 'Заклад з надання медичних послуг'),
    ('LICENSE_TYPE', 'PHARMACY', 'Аптека'),
    ('eHealth/service_request_complete_reasons', 'default', 'значення за замовчуванням'),
    ('eHealth/service_request_recall_reasons', 'default', 'значення за замовчуванням'),
    ('eHealth/service_request_cancel_reasons', 'default', 'значення за замовчуванням')
) AS base (dictionary, code, description)
WHERE v.dictionary = base.dictionary AND v.code = base.code AND v.description = '';

INSERT INTO prm.parameters (name, value) VALUES
    ('BIG_DICTIONARIES', '[]'),
    ('SERVICE_REQUEST_EXPIRATION_DAYS', '"365"'),
    ('SPECIMEN_SERVICE_REQUEST_ALLOWED_CATEGORIES', '["laboratory_procedure"]'),
    ('ASSISTANT_SERVICE_REQUEST_ALLOWED_CATEGORIES', '["laboratory_procedure", "diagnostic_procedure"]'),
    ('OWNER_POSITIONS', '["P1", "P2", "P3", "P32", "P4", "P6", "P5", "P18", "P19", "P22", "P23", "P24", "P25", "P26", "P229", "P230", "P231", "P232", "P233", "P234", "P235", "P236", "P240", "P257"]'),
    ('LEGAL_ENTITY_PRIMARY_CARE_PRIMARY_LICENSE_TYPES', '["MSP"]'),
    ('LEGAL_ENTITY_OUTPATIENT_PRIMARY_LICENSE_TYPES', '["MSP"]'),
    ('LEGAL_ENTITY_EMERGENCY_PRIMARY_LICENSE_TYPES', '["MSP"]'),
    ('LEGAL_ENTITY_PHARMACY_PRIMARY_LICENSE_TYPES', '["PHARMACY"]'),
    ('LEGAL_ENTITY_PRIMARY_CARE_EMPLOYEE_TYPES', '["REORGANIZATION_OWNER", "OWNER", "HR", "DOCTOR", "ASSISTANT", "ADMIN", "RECEPTIONIST", "MED_ADMIN", "LABORANT"]'),
    ('LEGAL_ENTITY_OUTPATIENT_EMPLOYEE_TYPES', '["REORGANIZATION_OWNER", "OWNER", "HR", "ASSISTANT", "SPECIALIST", "ADMIN", "RECEPTIONIST", "MED_ADMIN", "LABORANT", "MED_COORDINATOR"]'),
    ('LEGAL_ENTITY_EMERGENCY_EMPLOYEE_TYPES', '["REORGANIZATION_OWNER", "OWNER", "HR", "SPECIALIST", "ASSISTANT", "ADMIN"]'),
    ('LEGAL_ENTITY_PHARMACY_EMPLOYEE_TYPES', '["PHARMACY_OWNER", "OWNER", "PHARMACIST", "HR"]'),
    ('LEGAL_ENTITY_PRIMARY_CARE_PROVIDING_CONDITIONS', '["OUTPATIENT"]'),
    ('LEGAL_ENTITY_OUTPATIENT_PROVIDING_CONDITIONS', '["INPATIENT", "OUTPATIENT", "FIELD"]'),
    ('LEGAL_ENTITY_EMERGENCY_PROVIDING_CONDITIONS', '["FIELD"]')
ON CONFLICT DO NOTHING;

-- +goose Down
SET LOCAL lock_timeout = '2s';
DELETE FROM prm.parameters WHERE name IN (
    'BIG_DICTIONARIES',
    'SERVICE_REQUEST_EXPIRATION_DAYS',
    'SPECIMEN_SERVICE_REQUEST_ALLOWED_CATEGORIES',
    'ASSISTANT_SERVICE_REQUEST_ALLOWED_CATEGORIES',
    'OWNER_POSITIONS',
    'LEGAL_ENTITY_PRIMARY_CARE_PRIMARY_LICENSE_TYPES',
    'LEGAL_ENTITY_OUTPATIENT_PRIMARY_LICENSE_TYPES',
    'LEGAL_ENTITY_EMERGENCY_PRIMARY_LICENSE_TYPES',
    'LEGAL_ENTITY_PHARMACY_PRIMARY_LICENSE_TYPES',
    'LEGAL_ENTITY_PRIMARY_CARE_EMPLOYEE_TYPES',
    'LEGAL_ENTITY_OUTPATIENT_EMPLOYEE_TYPES',
    'LEGAL_ENTITY_EMERGENCY_EMPLOYEE_TYPES',
    'LEGAL_ENTITY_PHARMACY_EMPLOYEE_TYPES',
    'LEGAL_ENTITY_PRIMARY_CARE_PROVIDING_CONDITIONS',
    'LEGAL_ENTITY_OUTPATIENT_PROVIDING_CONDITIONS',
    'LEGAL_ENTITY_EMERGENCY_PROVIDING_CONDITIONS');
UPDATE prm.dictionary_values v SET description = ''
FROM (VALUES
    ('LICENSE_TYPE', 'MSP', 'Заклад з надання медичних послуг'),
    ('LICENSE_TYPE', 'PHARMACY', 'Аптека'),
    ('eHealth/service_request_complete_reasons', 'default', 'значення за замовчуванням'),
    ('eHealth/service_request_recall_reasons', 'default', 'значення за замовчуванням'),
    ('eHealth/service_request_cancel_reasons', 'default', 'значення за замовчуванням')
) AS base (dictionary, code, description)
WHERE v.dictionary = base.dictionary AND v.code = base.code AND v.description = base.description;
DELETE FROM prm.dictionaries WHERE name IN (
    'LEGAL_ENTITY_TYPE_V2',
    'MEDICAL_PROGRAM_TYPE',
    'SERVICE_UNIT',
    'GENDER',
    'ACCREDITATION_CATEGORY',
    'POSITION',
    'SPECIALITY_TYPE',
    'DOCUMENT_TYPE',
    'eHealth/resources');
REVOKE SELECT (parent_code) ON prm.dictionary_values FROM reiestr_readonly;
REVOKE SELECT (description, labels) ON prm.dictionaries FROM reiestr_readonly;
ALTER TABLE prm.dictionary_values DROP COLUMN parent_code;
DELETE FROM prm.dictionary_values WHERE dictionary = 'EMPLOYEE_TYPE' AND code = 'REORGANIZATION_OWNER';
ALTER TABLE prm.dictionaries DROP COLUMN labels;
ALTER TABLE prm.dictionaries DROP COLUMN description;
