CREATE TABLE work (
    id bigserial PRIMARY KEY,
    title text NOT NULL,
    due timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz,
    done_by text,
    done_at timestamptz
);
CREATE VIEW due_work AS
    SELECT * FROM work WHERE done_at IS NULL AND due <= now() AND (leased_until IS NULL OR leased_until < now());
