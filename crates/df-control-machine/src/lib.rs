//! df-control-machine
