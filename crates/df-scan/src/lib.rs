//! df-scan
