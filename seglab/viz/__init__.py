"""Pictures: colour masks, overlays, error maps and figures, as arrays and files."""
