//! Changes to text: exact-unique replacement, and V4A patches that apply whole or not at all.

pub(crate) mod apply;
pub(crate) mod parse;
pub(crate) mod replace;
pub(crate) mod seek;
