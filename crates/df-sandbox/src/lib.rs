//! df-sandbox
