//! df-testkit
