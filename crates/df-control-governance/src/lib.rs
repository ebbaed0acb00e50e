//! df-control-governance
