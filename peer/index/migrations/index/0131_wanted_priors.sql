-- Why a patient is expected, and which priors are to be fetched ahead.
ALTER TABLE expected ADD COLUMN note TEXT NOT NULL DEFAULT '';     -- for people: what order it is for
ALTER TABLE expected ADD COLUMN cause TEXT NOT NULL DEFAULT '';    -- names an order, so that it can be taken back
ALTER TABLE expected ADD COLUMN wanted TEXT NOT NULL DEFAULT '';   -- JSON: which priors; '' for none
ALTER TABLE expected ADD COLUMN fetched TEXT NOT NULL DEFAULT '[]';  -- JSON array: Study Instance UIDs asked for
