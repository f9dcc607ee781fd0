-- What the update of licences and the completion and expiry of service requests write.
-- Live: grants only; no lock on any table.

-- +goose Up
SET LOCAL lock_timeout = '2s';

-- Holder, type, is_primary and is_active of a licence are changed by nobody here.
GRANT UPDATE (license_number, issued_by, issued_date, expiry_date, active_from_date, what_licensed, order_no, updated_at, updated_by)
    ON prm.licenses TO reiestr_app;
GRANT UPDATE (completed_with, program_service_id, status_reason) ON medical_events.service_requests TO reiestr_app;

-- +goose Down
SET LOCAL lock_timeout = '2s';
REVOKE UPDATE (completed_with, program_service_id, status_reason) ON medical_events.service_requests FROM reiestr_app;
REVOKE UPDATE (license_number, issued_by, issued_date, expiry_date, active_from_date, what_licensed, order_no, updated_at, updated_by)
    ON prm.licenses FROM reiestr_app;
