//! df-control-audit
