-- Programs that search all facilities over DICOMweb, and who issues the Patient IDs they write.
ALTER TABLE token ADD COLUMN federated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE token ADD COLUMN issuer TEXT NOT NULL DEFAULT '';
