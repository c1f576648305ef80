"""Networks in files: `FORMAT.md` beside this says what stands where."""
