//! fairface
fn main() {}
