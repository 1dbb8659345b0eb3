-- How often a program may search other facilities in an hour; NULL: as everyone may.
ALTER TABLE token ADD COLUMN per_hour INTEGER;
