//! df-contract
