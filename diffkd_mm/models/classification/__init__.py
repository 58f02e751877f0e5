"""Networks of classification; needs MMPretrain."""
