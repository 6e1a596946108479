"""Pictures as files and pixels: uploads, geometry, masks, PNG, provenance."""
