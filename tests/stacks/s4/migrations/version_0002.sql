CREATE INDEX work_due ON work (due) WHERE done_at IS NULL;
